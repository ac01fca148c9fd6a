"""Which channels of the fusion generator belong together, for pruning.

template's attributes   a level of the encoder is read by the next, and beside what the decoder makes of its size
                        ([up, skip]) by the decoder's next level and by all layers of the block of that size
drawn picture           what a block draws is normalised over its channels, coloured and convolved by the next; blocks
                        whose shortcut has no convolution add to it, so that the first ones share theirs with the seed
inside                  of a block, between its two convolutions; of each of its layers; of self-attention
motion                  the hourglass's levels, beside each other as the encoder's

Normalised over channels (`normalised`), a picture without some is not that picture with zeros in their place: means
and variances are those of the channels that are left. They are pruned all the same (docs/decisions/179).

Spectral norms are divided by in the weights (`training_form.py`), so u and v only lose the entries of what is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compress.pruning.groups import ChannelGroup, Member
from exporters.face_fusion.network import ATTENDED, Architecture

_HOURGLASS = "dense_motion_network.hourglass"
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def generator_groups(plan: Architecture) -> tuple[ChannelGroup, ...]:
    """All groups of a generator with these widths, but those of the three channels that it takes and gives."""
    return (*_attributes(plan), *_drawn(plan), *_inside(plan), *_motion(plan))


def normalised(name: str) -> bool:
    """Whether the channels of this group are normalised over."""
    return name.startswith(("drawn_", "inner_"))


def encoder_group(level: int) -> str:
    return f"encoder_{level}"


def decoder_group(level: int) -> str:
    return f"decoder_{level}"


def drawn_group(plan: Architecture, block: int) -> str:
    """The group that block number `block` reads; blocks without a convolution in their shortcut give it as well."""
    first = block
    while first > 1 and len(plan.hidden[first - 2]) == 2:
        first -= 1
    return f"drawn_{first}"


def _attributes(plan: Architecture) -> Iterator[ChannelGroup]:
    depth = len(plan.encoder)
    for level, channels in enumerate(plan.encoder, start=1):
        made = [Member(f"encoder.conv{level}.conv.weight", 0), *_norm(f"encoder.conv{level}.norm")]
        next_one = [Member(f"encoder.conv{level + 1}.conv.weight", 1, reads=True)] if level < depth else []
        beside = plan.decoder[depth - level - 1] if level < depth else 0
        yield ChannelGroup(
            encoder_group(level), channels, (*made, *next_one, *_attribute_readers(plan, depth - level, beside))
        )
    for level, channels in enumerate(plan.decoder, start=1):
        made = [Member(f"encoder.deconv{level}.deconv.weight", 1), *_norm(f"encoder.deconv{level}.bn")]
        yield ChannelGroup(decoder_group(level), channels, (*made, *_attribute_readers(plan, level, 0)))


def _attribute_readers(plan: Architecture, level: int, start: int) -> Iterator[Member]:
    """Who reads the attributes of a level, 0 the smallest: the decoder's next, and blocks, of the largest level two."""
    largest = len(plan.decoder)
    if level < largest:  # a transposed convolution's inputs are on axis 0
        yield Member(f"encoder.deconv{level + 1}.deconv.weight", 0, start, reads=True)
    for block in (level + 1,) if level < largest else (level + 1, level + 2):
        for layer in range(1, len(plan.hidden[block - 1]) + 1):
            yield Member(f"generator.AADBlk{block}.AAD{layer}.mlp_shared.1.weight", 1, start, reads=True)


def _drawn(plan: Architecture) -> Iterator[ChannelGroup]:
    members: dict[str, list[Member]] = {
        drawn_group(plan, 1): [Member("generator.up1.weight", 1), Member("generator.up1.bias", 0)]
    }
    widths = {drawn_group(plan, 1): plan.seed}
    for number, channels in enumerate(plan.blocks, start=1):
        block, layers = f"generator.AADBlk{number}", plan.hidden[number - 1]
        shortcut = [3] if len(layers) > 2 else []
        read = members[drawn_group(plan, number)]
        for layer in (1, *shortcut):
            read += [*_coloured(f"{block}.AAD{layer}"), *_reads(f"{block}.conv{layer}", 1 if layer == 3 else 3)]
        if number == len(plan.blocks):
            continue  # it gives the picture
        given = drawn_group(plan, number + 1)
        widths[given] = channels
        made = [*_makes(f"{block}.conv2"), *(member for _ in shortcut for member in _makes(f"{block}.conv3", False))]
        members.setdefault(given, []).extend(made)
        if number == ATTENDED:
            for asked in ("theta", "phi", "g"):
                members[given] += _reads(f"generator.sa.{asked}", 1)
            members[given] += _makes("generator.sa.o", bias=False)
    for name, found in members.items():
        yield ChannelGroup(name, widths[name], tuple(found))


def _inside(plan: Architecture) -> Iterator[ChannelGroup]:
    for number, (inner, layers) in enumerate(zip(plan.inner, plan.hidden, strict=True), start=1):
        block = f"generator.AADBlk{number}"
        if number < len(plan.blocks):  # the last one's are as few as the picture's
            made = (*_makes(f"{block}.conv1"), *_coloured(f"{block}.AAD2"), *_reads(f"{block}.conv2", 3))
            yield ChannelGroup(f"inner_{number}", inner, made)
        for layer, hidden in enumerate(layers, start=1):
            own = f"{block}.AAD{layer}"
            read = [Member(f"{own}.{convolution}.weight", 1, reads=True) for convolution in ("conv1", "conv2")]
            members = (Member(f"{own}.mlp_shared.1.weight", 0), Member(f"{own}.mlp_shared.1.bias", 0), *read)
            yield ChannelGroup(f"hidden_{number}_{layer}", hidden, members)
    keys, values = plan.attention
    theta, phi, g = (tuple(_makes(f"generator.sa.{name}", bias=False)) for name in ("theta", "phi", "g"))
    # A key is multiplied by what asks for it: scaled there, it is scaled.
    asked = tuple(Member(one.key, one.axis, reads=one.key.endswith("weight_bar")) for one in theta)
    yield ChannelGroup("attention_keys", keys, (*asked, *phi))
    yield ChannelGroup("attention_values", values, (*g, *_reads("generator.sa.o", 1)))


def _motion(plan: Architecture) -> Iterator[ChannelGroup]:
    depth = len(plan.motion_down)
    down, up = (f"{_HOURGLASS}.{side}_blocks" for side in ("encoder.down", "decoder.up"))
    for level, channels in enumerate(plan.motion_down):
        members = [*_convolution(f"{down}.{level}.conv"), *_norm(f"{down}.{level}.norm")]
        if level + 1 < depth:
            members.append(Member(f"{down}.{level + 1}.conv.weight", 1, reads=True))
            beside = depth - level - 1  # the level of the way up that reads it, beside what the one before drew
            members.append(Member(f"{up}.{beside}.conv.weight", 1, plan.motion_up[beside - 1], reads=True))
        else:
            members.append(Member(f"{up}.0.conv.weight", 1, reads=True))
        yield ChannelGroup(f"motion_down_{level}", channels, tuple(members))
    readers = [*(f"{up}.{level}.conv" for level in range(1, depth)), "dense_motion_network.mask"]
    for level, (channels, reader) in enumerate(zip(plan.motion_up, readers, strict=True)):
        made = (*_convolution(f"{up}.{level}.conv"), *_norm(f"{up}.{level}.norm"))
        yield ChannelGroup(f"motion_up_{level}", channels, (*made, Member(f"{reader}.weight", 1, reads=True)))


def _convolution(module: str) -> list[Member]:
    return [Member(f"{module}.weight", 0), Member(f"{module}.bias", 0)]


def _norm(module: str) -> list[Member]:
    return [Member(f"{module}.{key}", 0) for key in _BATCH_NORM]


def _makes(module: str, bias: bool = True) -> list[Member]:
    """A convolution with a spectral norm gives these channels."""
    keys: Sequence[str] = ("weight_bar", "weight_u", *(("bias",) if bias else ()))
    return [Member(f"{module}.module.{key}", 0) for key in keys]


def _reads(module: str, kernel: int) -> list[Member]:
    """A convolution with a spectral norm takes them; v has an entry for each value of a filter."""
    return [
        Member(f"{module}.module.weight_bar", 1, reads=True),
        Member(f"{module}.module.weight_v", 0, repeat=kernel * kernel),
    ]


def _coloured(layer: str) -> list[Member]:
    """A layer normalises and colours them; its mask reads them."""
    made = [Member(f"{layer}.{one}.{key}", 0) for one in ("conv1", "conv2", "fc1", "fc2") for key in ("weight", "bias")]
    return [*made, Member(f"{layer}.conv_h.weight", 1)]
