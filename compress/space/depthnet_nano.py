"""The DepthNet Nano family: a dense PBEP encoder and an EP decoder, in numbers.

Source: Wang, Famouri and Wong, "DepthNet Nano", arXiv 2004.08008, Table 1 and Figure 3. The paper
gives output channels only; projection and expansion are a reconstruction (docs/models.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from compress.errors import CompressError
from compress.space.operators import (
    ACTIVATION,
    CONCAT,
    CONV,
    NORM,
    POOL,
    UPSAMPLE,
    Operator,
)
from compress.space.schema import Field, Values, shown

MAX_STAGES = 4
NORMS = ("projection", "all")

_STAGE = {
    "modules": Field(int, 1, 64),
    "width_first": Field(int, 1, 512),
    "width_last": Field(int, 1, 512),
    "projection": Field(float, 0.25, 16.0),
    "expansion": Field(float, 0.5, 16.0),
    "transition": Field(int, 1, 4096),
}


def _schema() -> dict[str, Field]:
    fields = {"stem": Field(int, 1, 512), "stages": Field(int, 2, MAX_STAGES)}
    for stage in range(1, MAX_STAGES + 1):
        fields |= {f"stage{stage}.{key}": rule for key, rule in _STAGE.items()}
    fields["neck"] = Field(int, 1, 4096)
    for level in range(1, MAX_STAGES + 1):
        fields |= {f"up{level}.a": Field(int, 1, 1024), f"up{level}.b": Field(int, 1, 1024)}
    fields["decoder.expansion"] = Field(float, 0.25, 8.0)
    fields["norm"] = Field(str, allowed=NORMS)
    return fields


class DepthNetNanoFamily:
    """Rules of the family: what may be chosen, what is built, what it costs."""

    name = "depthnet-nano"
    schema = _schema()

    def decode(self, values: Values) -> dict[str, Any]:
        """Turn one choice for every parameter into an architecture.

        Module widths run linearly from ``width_first`` to ``width_last``, as the elided rows of
        Table 1 do. Decoder levels are numbered as the paper does, coarse to fine; a network of
        three stages has no first level, so choices that its stages do not use make no difference.
        """
        count = values["stages"]
        stages = []
        for index in range(1, count + 1):
            prefix = f"stage{index}."
            stages.append(
                {
                    "widths": interpolated(
                        values[prefix + "width_first"],
                        values[prefix + "width_last"],
                        values[prefix + "modules"],
                    ),
                    "projection": float(values[prefix + "projection"]),
                    "expansion": float(values[prefix + "expansion"]),
                    "transition": values["neck" if index == count else prefix + "transition"],
                }
            )
        decoder = [
            [values[f"up{level}.a"], values[f"up{level}.b"]]
            for level in range(MAX_STAGES - count + 1, MAX_STAGES + 1)
        ]
        return {
            "stem": values["stem"],
            "stages": stages,
            "decoder": decoder,
            "decoder_expansion": float(values["decoder.expansion"]),
            "norm": values["norm"],
        }

    def read_spec(self, spec: object, source: str) -> dict[str, Any]:
        """Read a network from a file, whose widths may leave rows out as the paper's table does.

        ``widths = [16, 16, 18, 20, "...", 20]`` with ``modules = 6`` is filled in linearly. Ratios
        become floats, so that 2 and 2.0 give one hash.
        """
        if not isinstance(spec, Mapping) or not isinstance(spec.get("stages"), list):
            raise CompressError(f"{source}: spec is a table with a list of stages")
        stages = []
        for number, stage in enumerate(spec["stages"], 1):
            stage = dict(stage) if isinstance(stage, Mapping) else {}
            count = stage.pop("modules", None)
            widths = stage.get("widths")
            if isinstance(widths, list) and "..." in widths:
                stage["widths"] = _filled(widths, count, f"{source}: stage {number}")
            elif isinstance(widths, list) and count not in (None, len(widths)):
                raise CompressError(
                    f"{source}: stage {number}: modules = {shown(count)} and {len(widths)} "
                    'widths; give as many widths as modules, or "..." for those between'
                )
            stages.append(stage)
        filled = {**spec, "stages": stages}
        self.check_spec(filled, source)
        for stage in stages:
            stage |= {key: float(stage[key]) for key in ("projection", "expansion")}
        return filled | {"decoder_expansion": float(filled["decoder_expansion"])}

    def check_spec(self, spec: object, source: str) -> None:
        """Raise ``CompressError`` unless ``spec`` describes a network of this family."""
        keys = {"stem", "stages", "decoder", "decoder_expansion", "norm"}
        if not isinstance(spec, Mapping) or spec.keys() != keys:
            raise CompressError(
                f"{source}: a {self.name} spec has the keys {', '.join(sorted(keys))}; got "
                f"{shown(sorted(map(str, spec)) if isinstance(spec, Mapping) else spec)}"
            )
        check = self.schema
        check["stem"].check(spec["stem"], f"{source}: stem")
        check["norm"].check(spec["norm"], f"{source}: norm")
        check["decoder.expansion"].check(spec["decoder_expansion"], f"{source}: decoder_expansion")
        stages, decoder = spec["stages"], spec["decoder"]
        if not isinstance(stages, list) or not 2 <= len(stages) <= MAX_STAGES:
            raise CompressError(f"{source}: stages is a list of 2 to {MAX_STAGES} stages")
        if not isinstance(decoder, list) or len(decoder) != len(stages):
            raise CompressError(f"{source}: decoder is a list of one [a, b] for each stage")
        wanted = {"widths", "projection", "expansion", "transition"}
        for number, stage in enumerate(stages, 1):
            at = f"{source}: stage {number}"
            if not isinstance(stage, Mapping) or stage.keys() != wanted:
                raise CompressError(f"{at} has the keys {', '.join(sorted(wanted))}")
            widths = stage["widths"]
            if not isinstance(widths, list) or not 1 <= len(widths) <= 64:
                raise CompressError(f"{at}: widths is a list of 1 to 64 whole numbers")
            for width in widths:
                _STAGE["width_first"].check(width, f"{at}: width")
            for key in ("projection", "expansion", "transition"):
                _STAGE[key].check(stage[key], f"{at}: {key}")
        for number, pair in enumerate(decoder, 1):
            if not isinstance(pair, list) or len(pair) != 2:
                raise CompressError(f"{source}: decoder level {number} is a list [a, b]")
            for width in pair:
                check["up1.a"].check(width, f"{source}: decoder level {number}")

    def operators(self, spec: Mapping[str, Any], size: tuple[int, int]) -> list[Operator]:
        """List what runs for one image of ``size`` (height, width), in order."""
        ops: list[Operator] = []
        add = ops.append
        norm_all = spec["norm"] == "all"

        def activated(name: str, c: int, h: int, w: int) -> None:
            if norm_all:
                add(Operator(name + ".norm", NORM, c, c, h, w, detail="batch"))
            add(Operator(name + ".act", ACTIVATION, c, c, h, w, detail="selu"))

        h, w = -(-size[0] // 2), -(-size[1] // 2)
        c = spec["stem"]
        add(Operator("stem", CONV, 3, c, h, w, 7, 2))
        activated("stem", c, h, w)
        skips = [(c, h, w)]
        h, w = -(-h // 2), -(-w // 2)
        add(Operator("stem.pool", POOL, c, c, h, w, 2, 2, detail="avg"))
        skips.append((c, h, w))

        last = len(spec["stages"]) - 1
        for index, stage in enumerate(spec["stages"]):
            ratio, expansion = stage["projection"], stage["expansion"]
            for number, width in enumerate(stage["widths"], 1):
                name = f"stage{index + 1}.{number}"
                p = projected(c, ratio)
                e = expanded(p, expansion)
                add(Operator(name + ".project", CONV, c, p, h, w))
                add(Operator(name + ".norm", NORM, p, p, h, w, detail="batch"))
                add(Operator(name + ".expand", CONV, p, e, h, w))
                activated(name + ".expand", e, h, w)
                add(Operator(name + ".depthwise", CONV, e, e, h, w, 3, 1, e))
                activated(name + ".depthwise", e, h, w)
                add(Operator(name + ".reduce", CONV, e, width, h, w))
                activated(name + ".reduce", width, h, w)
                add(Operator(name + ".concat", CONCAT, c + width, c + width, h, w))
                c += width
            name = f"transition{index + 1}"
            add(Operator(name, CONV, c, stage["transition"], h, w))
            c = stage["transition"]
            activated(name, c, h, w)
            if index != last:
                h, w = -(-h // 2), -(-w // 2)
                add(Operator(name + ".pool", POOL, c, c, h, w, 2, 2, detail="avg"))
                skips.append((c, h, w))
        skips.pop()  # the coarsest pooled map is the last stage's own input, not a skip

        ratio = spec["decoder_expansion"]
        for level, pair in enumerate(spec["decoder"], 1):
            skip, h, w = skips.pop()
            name = f"up{level}"
            add(Operator(name + ".upsample", UPSAMPLE, c, c, h, w, detail="nearest"))
            c += skip
            add(Operator(name + ".concat", CONCAT, c, c, h, w))
            for letter, width in zip("ab", pair, strict=True):
                block = f"{name}.{letter}"
                e = expanded(c, ratio)
                add(Operator(block + ".expand", CONV, c, e, h, w))
                activated(block + ".expand", e, h, w)
                add(Operator(block + ".depthwise", CONV, e, e, h, w, 3, 1, e))
                activated(block + ".depthwise", e, h, w)
                add(Operator(block + ".reduce", CONV, e, width, h, w))
                activated(block + ".reduce", width, h, w)
                c = width
        add(Operator("head", CONV, c, 1, h, w, 3, bias=True))
        add(Operator("head.upsample", UPSAMPLE, 1, 1, size[0], size[1], detail="bilinear"))
        add(Operator("head.clamp", ACTIVATION, 1, 1, size[0], size[1], detail="clamp"))
        return ops


def _filled(widths: list[Any], count: object, source: str) -> list[int]:
    """``widths`` with the rows that "..." stands for."""
    head = widths[: widths.index("...")]
    tail = widths[len(head) + 1 :]
    if not head or len(tail) != 1 or type(count) is not int or count <= len(head):
        raise CompressError(
            f'{source}: widths = {shown(widths)}: write the first widths, "...", the last one, '
            f"and modules = their number; got {shown(count)}"
        )
    _STAGE["modules"].check(count, f"{source}: modules")
    for width in head + tail:
        _STAGE["width_first"].check(width, f"{source}: width")
    return head + interpolated(head[-1], tail[0], count - len(head) + 1)[1:]


def projected(channels: int, ratio: float) -> int:
    """Width of a PBEP projection: ``ratio * sqrt(channels)``, as dense inputs grow."""
    return max(1, round(ratio * sqrt(channels)))


def expanded(channels: int, ratio: float) -> int:
    """Width of a PBEP or EP expansion."""
    return max(1, round(channels * ratio))


def interpolated(first: int, last: int, count: int) -> list[int]:
    """``count`` widths from first to last, evenly spread.

    >>> interpolated(16, 20, 3)
    [16, 18, 20]
    """
    if count == 1:
        return [first]
    return [round(first + (last - first) * i / (count - 1)) for i in range(count)]
