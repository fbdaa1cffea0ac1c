"""What the robot and its monitors say to each other."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from deli_com import Codec, FixedArray, f32, u64

JOINTS = 6


class Sample(Codec):
    stamp: u64  # nanoseconds since the start
    position: FixedArray[f32, Literal[6]]  # radians
    torque: FixedArray[f32, Literal[6]]  # newton metres
    contact: bool


class Batch(Codec):
    robot: str
    # A structured array with one row a sample; its bytes are those of list[Sample].
    samples: Annotated[NDArray[np.void], Sample]


class Stop(Codec):
    reason: str
