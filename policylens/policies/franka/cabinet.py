"""The scene: a Panda arm before a cabinet with two drawers, as MJCF.

The arm (bodies, meshes, actuators) is that of gymnasium-robotics' kitchen, read from the installed package, which is
never imported; the cabinet is ours. Lengths in metres, angles in radians. The drawers slide towards the arm, along -x;
the task is the upper one. Gravity is off, as an arm's controller compensates its own weight.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from xml.sax.saxutils import escape

from policylens.errors import UserError

PACKAGE = "gymnasium_robotics"
CABINET = (0.84, 0.0, 0.40)
"""Where the cabinet stands before it is moved."""

DRAWER_RANGE = 0.40
WIDTH, DEPTH, HALF_HEIGHT, WALL = 0.40, 0.35, 0.30, 0.015
HANDLE = 0.055  # how far the handle stands off the drawer's front
_SOLID = 'contype="2" conaffinity="1"'  # touches the arm, and nothing else of the cabinet

SCENE = """\
<mujoco model="franka_cabinet">
<include file="{assets}/assets.xml"/><include file="{assets}/actuator.xml"/>
<compiler inertiafromgeom="auto" inertiagrouprange="0 5" angle="radian" meshdir="{assets}/meshes"/>
<option gravity="0 0 0" timestep="{timestep}" integrator="implicitfast" cone="elliptic"/>
<visual>
  <global offwidth="640" offheight="480"/><quality shadowsize="0" offsamples="0"/>
  <headlight ambient=".4 .4 .4" diffuse=".5 .5 .5"/>
</visual>
<worldbody>
  <light pos="0 -1 2.5" dir=".2 .5 -1" castshadow="false"/>
  <geom type="plane" size="3 3 .1" rgba=".35 .4 .45 1" contype="0" conaffinity="0"/>
  <camera name="main" pos="-.35 -1.35 1.25" xyaxes=".86 -.51 0 .26 .44 .86"/>
  <body name="base"><include file="{assets}/chain.xml"/></body>
  <body name="cabinet" mocap="true" pos="{place}">{cabinet}</body>
</worldbody>
</mujoco>
"""

DRAWER = """
<body name="drawer_{name}" pos="0 0 {height}">
  <joint name="drawer_{name}" type="slide" axis="-1 0 0" range="0 {range}" limited="true" damping="8" frictionloss="2"/>
  <geom type="box" size=".01 {half_width} {half_height}" rgba="{color}" mass="1" {solid}/>
  <geom type="box" pos="{middle} 0 {floor}" size="{half_depth} {half_width} .006" rgba="{color}" mass=".3" {solid}/>
  <geom name="handle_{name}" type="capsule" fromto="-{handle} -.07 0 -{handle} .07 0" size=".01" rgba=".8 .8 .85 1"
    mass=".05" friction="1.5 .05 .001" condim="4" {solid}/>
  <geom name="handle_{name}_right" type="capsule" fromto="0 -.07 0 -{handle} -.07 0" size=".006" mass=".01" {solid}/>
  <geom name="handle_{name}_left" type="capsule" fromto="0 .07 0 -{handle} .07 0" size=".006" mass=".01" {solid}/>
  <site name="handle_{name}" pos="-{handle} 0 0" size=".005"/>
</body>"""


def assets() -> Path:
    """The folder with the arm's MJCF and meshes; UserError where the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"the Franka simulator needs the package {PACKAGE}: run in the environment `franka` (envs/run)")
    return Path(next(iter(found.submodule_search_locations)), "envs", "assets", "kitchen_franka", "franka_assets")


def scene(folder: Path, timestep: float) -> str:
    """The scene as the text of an MJCF file. folder: that of :func:`assets`. timestep: of the physics, in seconds."""
    return SCENE.format(
        assets=escape(str(folder), {'"': "&quot;"}),
        timestep=timestep,
        place=_numbers(CABINET),
        cabinet=_walls()
        + _drawer("top", HALF_HEIGHT / 2, ".75 .62 .45 1")
        + _drawer("bottom", -HALF_HEIGHT / 2, ".68 .55 .4 1"),
    )


def _walls() -> str:
    half, outer = DEPTH / 2, WIDTH / 2 + 2 * WALL
    boxes = {
        "back": ((DEPTH, 0, 0), (WALL, outer, HALF_HEIGHT)),
        "left": ((half, WIDTH / 2 + WALL, 0), (half, WALL, HALF_HEIGHT)),
        "right": ((half, -WIDTH / 2 - WALL, 0), (half, WALL, HALF_HEIGHT)),
        "top": ((half, 0, HALF_HEIGHT), (half, outer, WALL)),
        "bottom": ((half, 0, -HALF_HEIGHT), (half, outer, WALL)),
        "middle": ((half, 0, 0), (half, WIDTH / 2, WALL / 2)),
    }
    return "".join(
        f'\n<geom name="cabinet_{name}" type="box" pos="{_numbers(place)}" size="{_numbers(size)}" '
        f'rgba=".55 .45 .35 1" {_SOLID}/>'
        for name, (place, size) in boxes.items()
    )


def _drawer(name: str, height: float, color: str) -> str:
    return DRAWER.format(
        name=name,
        height=height,
        range=DRAWER_RANGE,
        half_width=WIDTH / 2 - 0.02,
        half_height=HALF_HEIGHT / 2 - 0.02,
        middle=DEPTH / 2 - 0.03,
        floor=-HALF_HEIGHT / 2 + 0.03,
        half_depth=DEPTH / 2 - 0.04,
        handle=HANDLE,
        color=color,
        solid=_SOLID,
    )


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
