"""What a state dict looks like: a family's, or one of the strangers that people take for it, told by their own keys."""

from __future__ import annotations

from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]

# Keys that only they have. What nobody here exports is named so that an error can say what a file is.
_STRANGERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("convs.0.0.weight", "final_linear.0.weight"), "a GAN's discriminator ({count} keys), which only training needs"),
    (("style.1.weight", "to_rgb1.conv.weight"), "a plain StyleGAN2 generator without GPEN's encoder"),
    (("conv1.weight", "fc.weight"), "a plain ResNet"),
)


def looks_like(shapes: Shapes) -> str:
    """A few words for the network that has these keys ("a GPEN generator of size 512")."""
    import exporters  # the families ask this module about their own files

    for family in exporters.families():
        if told := family.recognise(shapes):
            return told
    for keys, told in _STRANGERS:
        if has_keys(shapes, *keys):
            return told.format(count=len(shapes))
    examples = ", ".join(list(shapes)[:3])
    return f"a network unknown here ({len(shapes)} keys: {examples}, ...)" if shapes else "an empty state dict"


def fits(shapes: Shapes, network: str) -> bool:
    """Whether these are a network of the same family as `network`; True where there is no such family."""
    import exporters

    owners = [family for family in exporters.families() if network in family.networks]
    return not owners or bool(owners[0].recognise(shapes))


def has_keys(shapes: Shapes, *keys: str) -> bool:
    """Whether all of `keys` are there."""
    return all(key in shapes for key in keys)
