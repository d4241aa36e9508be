import numpy as np
import pytest

from dtfsal.training.synthetic import Cutout, Sources, photograph, things
from dtfsal.training.synthetic.rendering import blend

RGB = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)


@pytest.mark.parametrize("make", [things.face, things.loudspeaker, things.ball, things.sign])
@pytest.mark.parametrize("height", [12, 60])
def test_drawn_things_have_their_height_and_something_to_see(make, height):
    thing = make(np.random.default_rng(0), height)
    for sprite in thing.sprites:
        assert (sprite.shape[0], sprite.shape[2], sprite.dtype) == (height, 4, np.uint8)
        assert (sprite[:, :, 3] > 128).mean() > 0.3


@pytest.mark.parametrize("make", [things.face, things.loudspeaker])
def test_states_differ_more_the_further_apart(make):
    sprites = [sprite.astype(int) for sprite in make(np.random.default_rng(0), 60).sprites]
    assert len(sprites) == things.STATES
    difference = [np.abs(sprite - sprites[0]).sum() for sprite in sprites]
    assert difference == sorted(difference)
    assert difference[1] > 0


def test_any_thing_comes_of_any_source():
    cutout = Cutout("tall", np.full((90, 30, 4), 255, np.uint8))
    world = Sources((photograph("noise", RGB),), (cutout,))
    rng = np.random.default_rng(0)
    for _ in range(60):
        thing = things.random_thing(rng, world, 40)
        assert {sprite.shape[0] for sprite in thing.sprites} == {40}


def test_a_piece_shows_the_photograph_and_fades_at_its_edge():
    (sprite,) = things.piece(np.random.default_rng(0), photograph("noise", RGB), 50).sprites
    assert sprite[25, 25, 3] == 255
    assert sprite[0, 0, 3] == sprite[49, 49, 3] == 0


def test_blending_keeps_what_is_outside_the_sprite_and_cuts_at_the_border():
    sprite = np.zeros((10, 10, 4), np.uint8)
    sprite[:, :] = (200, 100, 50, 255)
    frame = np.full((40, 40, 3), 7, np.uint8)
    blend(frame, sprite, 0.0, 20.0, 1.0)  # its left half lies outside
    assert (frame[15:25, :5] == (200, 100, 50)).all()
    assert (frame == 7).all(axis=2).sum() == 40 * 40 - 50
    blend(frame, sprite, -30.0, 20.0, 1.0)
    assert (frame == 7).all(axis=2).sum() == 40 * 40 - 50


def test_a_talker_opens_below_where_people_look_and_nowhere_above():
    rng = np.random.default_rng(3)
    rgba = np.dstack((rng.integers(80, 256, (90, 60, 3)), np.full((90, 60), 255))).astype(np.uint8)
    thing = things.talker(np.random.default_rng(0), Cutout("head", rgba, (0.5, 0.4)), 60)
    sprites = [sprite.astype(int) for sprite in thing.sprites]
    assert len(sprites) == things.STATES
    changes = [np.abs(sprite - sprites[0]).sum(axis=2) for sprite in sprites[1:]]
    above = round(60 * 0.4 / 0.95)  # head and shoulders are 0.95 of the cut-out
    assert all(not change[:above].any() for change in changes)
    assert all(change[above:].any() for change in changes)
    opened = [(sprite[..., :3] == (70, 20, 20)).all(axis=2).sum() for sprite in sprites]
    assert opened[0] == 0
    assert opened == sorted(opened)
