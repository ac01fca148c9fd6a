"""Face fusion's flow: which of several faces is taken, by size, number or reference, or all of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cameo.errors import PhotoError, RequestError
from cameo.faces import Face
from cameo.flows.face_fusion import Request
from tests.cameo.flows.fusion_parts import (
    FACE,
    TEMPLATE,
    TWO,
    changed,
    face_at,
    flow_with,
    fuse,
    inverting,
)


def places_of(outcome) -> list[tuple[float, ...]]:
    return [tuple(face.box[:2]) for face in outcome.faces]


def test_of_several_faces_the_largest_is_taken_and_the_note_says_so():
    outcome = fuse(flow_with(TWO, [face_at(0.3, 5, 5), face_at(0.4, 100, 60)]))
    assert places_of(outcome) == [(220, 100)]
    for name in ("template", "face"):
        others = f"`{name}_face` and `{name}_reference` choose another"
        assert f"The photo '{name}' has 2 faces: the largest was taken; {others}." in outcome.note
    assert not changed(outcome.image)[20:97, 20:97].any()


@pytest.mark.parametrize(("number", "place"), [(1, (220, 100)), (2, (20, 20))])
def test_a_face_is_taken_by_its_number(number, place):
    outcome = fuse(flow_with(TWO), template_face=number)
    assert (places_of(outcome), outcome.note) == ([place], "")


def test_the_face_to_take_is_chosen_by_its_number():
    flow = flow_with(face_faces=TWO)
    photos = {"template": TEMPLATE, "face": FACE}
    faces = [flow.stages(photos, Request(face_face=number)).source.face for number in (1, 2)]
    assert [tuple(face.box[:2]) for face in faces] == [(220, 100), (20, 20)]


@pytest.mark.parametrize("option", ["template_face", "face_face"])
def test_a_number_too_high_says_how_many_there_are(option):
    photo = option.partition("_")[0]
    with pytest.raises(RequestError, match=f"Face 3 of the photo '{photo}' was asked for, which has 2 faces"):
        fuse(flow_with(TWO, TWO), **{option: 3})
    with pytest.raises(RequestError, match="which has 1 face"):
        fuse(flow_with(), **{option: 2})


@pytest.mark.parametrize("index", [0, 1])
def test_the_face_most_like_the_reference_is_taken(index):
    dark_and_bright = np.full_like(TEMPLATE, 40)
    dark_and_bright[:, 210:] = 200
    reference = np.full((100, 110, 3), (50, 190)[index], np.uint8)
    flow = flow_with(TWO, others={(100, 110): [face_at(0.3, 10, 10)]})
    outcome = fuse(flow, dark_and_bright, template_reference=reference)
    assert places_of(outcome) == [tuple(TWO[index].box[:2])]
    assert f"face {2 - index} of 2 was taken: its cosine to the reference is 1.00" in outcome.note
    same = flow.stages({"template": FACE, "face": dark_and_bright}, Request(face_reference=Image.fromarray(reference)))
    np.testing.assert_array_equal(same.source.face.box, TWO[index].box)


def test_a_reference_without_a_face_is_named():
    with pytest.raises(PhotoError, match="No face was found in the photo 'template_reference'"):
        fuse(flow_with(TWO), template_reference=np.zeros((50, 50, 3), np.uint8))


def test_all_faces_are_fused_some_at_once():
    faces = [face_at(0.2, 60 * index, 30 + 20 * index) for index in range(6)]
    generator = inverting()
    flow = flow_with(faces, generator=generator)
    outcome = fuse(flow, all=True)
    assert [shape[0] for shape in generator.shapes] == [4, 2]
    assert len(outcome.faces) == 6
    alone = [fuse(flow, template_face=number).image for number in range(1, 7)]
    touched = np.any([changed(image) for image in alone], axis=0)
    np.testing.assert_array_equal(changed(outcome.image), touched)


def test_as_many_faces_as_are_looked_for_may_not_be_all():
    flow = flow_with([face_at(0.2, 60 * index, 30 + 20 * index) for index in range(3)])
    flow._finder.most = 3
    outcome = fuse(flow, all=True)
    assert outcome.note == "3 faces were found, as many as the faces that the test knows may find: there may be more."


@pytest.mark.parametrize(
    "chosen",
    [
        {"all": True, "template_face": 1},
        {"all": True, "template_reference": FACE},
        {"template_face": 1, "template_reference": FACE},
        {"face_face": 1, "face_reference": FACE},
    ],
)
def test_choices_that_contradict_each_other_are_refused(chosen):
    with pytest.raises(RequestError, match="expected"):
        Request(**chosen)


NOWHERE = Face(np.array([0, 0, 300, 300], np.float32), 1.0, None, np.full((5, 2), 7.0))


def test_a_face_without_a_place_is_left_out_of_all_and_refused_alone():
    outcome = fuse(flow_with([NOWHERE, *TWO]), all=True)
    assert len(outcome.faces) == 2
    assert "1 of 3 faces were left out" in outcome.note
    with pytest.raises(PhotoError, match="five points of a face all lie at"):
        fuse(flow_with([NOWHERE, *TWO]))
    with pytest.raises(PhotoError, match="five points of a face all lie at"):
        fuse(flow_with([NOWHERE, NOWHERE]), all=True)
    flow = flow_with([NOWHERE, *TWO], others={(100, 110): [face_at(0.3, 10, 10)]})
    assert "face 2 of 3 was taken" in fuse(flow, template_reference=TEMPLATE[100:200, 220:330]).note


@pytest.mark.parametrize("name", ["template", "face"])
def test_a_photo_without_a_face_is_named(name):
    flow = flow_with(**{f"{name}_faces": []})
    with pytest.raises(PhotoError, match=f"No face was found in the photo '{name}', expected one"):
        fuse(flow)
    outcome = fuse(flow, allow_no_face=True)
    np.testing.assert_array_equal(outcome.image, TEMPLATE)
    assert outcome.image is not TEMPLATE
    assert (outcome.faces, outcome.note) == ((), f"No face was found in the photo '{name}': the template is as it was.")
