"""A small space as TOML text, for the tests of this folder."""

from __future__ import annotations

TINY = """\
name = "tiny"
family = "depthnet-nano"
size = [32, 48]

[choices]
stem = [4, 8]
stages = [3]
neck = [8, 16]
norm = ["projection"]
decoder.expansion = [0.5, 1.0]

[choices.stage1]
modules = [1, 2]
width_first = [4]
width_last = [6]
projection = [1.0]
expansion = [2.0]
transition = [8]

[choices.stage2]
modules = [1]
width_first = [4]
width_last = [4]
projection = [1.0]
expansion = [2.0]
transition = [8]

[choices.stage3]
modules = [1]
width_first = [4]
width_last = [4]
projection = [1.0]
expansion = [2.0]
transition = [8]

[choices.stage4]
modules = [1]
width_first = [4]
width_last = [4]
projection = [1.0]
expansion = [2.0]
transition = [8]

[choices.up1]
a = [8]
b = [8]

[choices.up2]
a = [8]
b = [8]

[choices.up3]
a = [4]
b = [4]

[choices.up4]
a = [4]
b = [4]

[references.one]
description = "a point"
size = [48, 64]
published = { params = 1000.0 }

[references.one.spec]
stem = 4
decoder = [[8, 8], [4, 4]]
decoder_expansion = 1.0
norm = "projection"
stages = [
    { modules = 4, widths = [4, 5, "...", 9], projection = 1.0, expansion = 2.0, transition = 8 },
    { widths = [4], projection = 1.0, expansion = 2.0, transition = 8 },
]
"""
