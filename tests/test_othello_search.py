"""The tree search and the games played with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from othello_reference import PASS, START, actions, after, boards, perfect, random_position, swapped
from othello_small import disc_counting, even_handed
from support import refused

from policylens.policies.othello import search
from policylens.policies.othello.selfplay import PlaySettings, play_games

SEEDS = st.lists(st.integers(0, 10**6), min_size=1, max_size=4)


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([1, 2, 17, 60]))
def test_visits_add_up_and_go_to_legal_moves(seeds, simulations):
    positions = [random_position(seed) for seed in seeds]
    visits, values, priors = search.search_positions(disc_counting, *boards(positions), simulations)
    np.testing.assert_array_equal(visits.sum(axis=1), simulations)
    np.testing.assert_allclose(priors.sum(axis=1), 1, rtol=1e-5)
    assert (np.abs(values) <= 1).all()
    for position, row, prior in zip(positions, visits, priors, strict=True):
        legal = set(actions(position))
        assert set(np.flatnonzero(row)) <= legal
        assert set(np.flatnonzero(prior)) == legal


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_a_long_search_finds_the_best_result_of_an_endgame(seed):
    cells = random_position(seed, empties=5)
    visits, values, _ = search.search_positions(even_handed, *boards([cells]), 3000)
    results = {action: np.sign(-perfect(after(cells, action))) for action in actions(cells)}
    assert results[int(visits[0].argmax())] == max(results.values())
    assert values[0] == pytest.approx(max(results.values()), abs=0.3)


def test_a_search_of_one_position_is_that_of_many():
    positions = [random_position(seed) for seed in range(20)]
    many = search.search_positions(disc_counting, *boards(positions), 40)
    for row, position in enumerate(positions):
        one = search.search_positions(disc_counting, *boards([position]), 40)
        for alone, among in zip(one, many, strict=True):
            np.testing.assert_array_equal(alone[0], among[row])


def test_without_simulations_there_are_the_priors_and_the_networks_value():
    own, opp = boards([START])
    visits, values, priors = search.search_positions(disc_counting, own, opp, 0)
    logits, expected = disc_counting(own, opp)
    assert visits.sum() == 0
    assert values[0] == pytest.approx(expected[0])
    weights = np.exp(logits[0, actions(START)])
    np.testing.assert_allclose(priors[0, actions(START)], weights / weights.sum(), rtol=1e-6)


def test_a_worse_network_value_is_not_hidden_by_the_side_that_moves():
    """A value is the mover's: where the network calls every child good for the opponent, the root is bad."""

    def good_for_the_mover(own, opp):
        return even_handed(own, opp)[0], np.full(len(own), 0.5, np.float32)

    _, values, _ = search.search_positions(good_for_the_mover, *boards([START]), 4)
    assert values[0] == pytest.approx(-0.5)


def tree(trees, number=0):
    """A lane's tree as nested tuples, free of where things lie in memory."""
    node = trees.nodes[0, number]
    edges = trees.edges[0, node["first"] : node["first"] + node["edges"]]
    children = [
        (int(edge["action"]), int(edge["visits"]), float(edge["total"]), float(edge["prior"]))
        + ((tree(trees, edge["child"]),) if edge["child"] >= 0 else ())
        for edge in edges
    ]
    return int(node["own"]), int(node["opp"]), int(node["status"]), float(node["value"]), tuple(children)


def grown(evaluate, position, simulations):
    trees = search.plant(1, simulations)
    own, opp = boards([position])
    search.plant_root(trees, 0, own[0], opp[0])
    while not search.search(trees, 0, simulations, search.Puct()):
        leaf = trees.nodes[0, trees.lanes[0]["leaf"]]
        search.absorb(trees, np.array([0]), *evaluate(leaf["own"].reshape(1), leaf["opp"].reshape(1)))
    return trees


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 80))
def test_a_move_keeps_the_tree_below_it(seed, simulations):
    trees = grown(disc_counting, random_position(seed), simulations)
    whole = tree(trees)
    action, below = max(
        ((entry[0], entry[4]) for entry in whole[4] if len(entry) > 4), key=lambda entry: len(str(entry))
    )
    search.advance_root(trees, 0, action)
    assert tree(trees) == below
    if below[2] != search.OVER:
        again = [search.search(trees, 0, int(search.root_visits(trees, 0)), search.Puct())]
        assert again == [True]


def test_a_move_not_searched_starts_a_new_tree():
    trees = grown(disc_counting, START, 1)
    unvisited = next(entry[0] for entry in tree(trees)[4] if entry[1] == 0)
    search.advance_root(trees, 0, unvisited)
    (own,), (opp,) = boards([after(START, unvisited)])
    assert tree(trees)[:3] == (own, opp, 0)


def test_a_tree_never_outgrows_its_memory():
    trees = search.plant(1, 4)
    (own,), (opp,) = boards([START])
    search.plant_root(trees, 0, own, opp)
    for _ in range(100):
        if search.search(trees, 0, 1000, search.Puct()) or trees.lanes[0]["full"]:
            break
        leaf = trees.nodes[0, trees.lanes[0]["leaf"]]
        search.absorb(trees, np.array([0]), *disc_counting(leaf["own"].reshape(1), leaf["opp"].reshape(1)))
    assert trees.lanes[0]["full"]
    assert trees.lanes[0]["nodes"] <= trees.nodes.shape[1]
    with refused("outgrew its memory"):
        search.check_memory(trees)


def games(settings=None, episodes=range(6), seed=0, lanes=4, evaluate=disc_counting):
    played = play_games(evaluate, settings or PlaySettings(simulations=8), search.Puct(), episodes, seed, lanes)
    return {int(episode["episode"]): (steps, episode) for steps, episode in played}


def test_games_follow_the_rules_to_their_end():
    for number, (steps, episode) in games(PlaySettings(simulations=4, last_opening=6), range(40)).items():
        assert episode["opening"] == steps["ply"][0]
        np.testing.assert_array_equal(steps["ply"], np.arange(len(steps)) + episode["opening"])
        assert (steps["episode"] == number).all()
        assert episode["length"] == len(steps)
        cells = None
        for step in steps:
            own, opp = int(step["own"]), int(step["opp"])
            here = tuple((own >> square & 1) - (opp >> square & 1) for square in range(36))
            assert cells is None or here == cells
            assert step["action"] in actions(here)
            forced = len(actions(here)) == 1
            assert 1 <= step["visits"].sum() <= 4 if forced else step["visits"].sum() == 4
            cells = after(here, int(step["action"]))
        assert not actions(cells)
        next_ply = episode["opening"] + episode["length"]
        assert episode["outcome"] == sum(cells if next_ply % 2 == 0 else swapped(cells))


def test_openings_cover_their_range_and_differ():
    played = games(PlaySettings(simulations=0, first_opening=2, last_opening=5), range(200), lanes=50)
    assert {int(episode["opening"]) for _, episode in played.values()} == {2, 3, 4, 5}
    assert len({(int(steps["own"][0]), int(steps["opp"][0])) for steps, _ in played.values()}) > 50


@pytest.mark.parametrize("simulations", [0, 8])
def test_an_episode_does_not_depend_on_its_neighbours(simulations):
    play = PlaySettings(simulations=simulations, noise_weight=0.25)
    together = games(play, range(20), lanes=8)
    alone = games(play, [13], lanes=1)
    assert together[13][0].tobytes() == alone[13][0].tobytes()
    assert together[13][1] == alone[13][1]
    assert len({steps.tobytes() for steps, _ in together.values()}) == 20
    assert games(play, [13], seed=1)[13][0].tobytes() != alone[13][0].tobytes()


def test_without_temperature_the_most_visited_move_is_played():
    for steps, _ in games(PlaySettings(simulations=12, temperature=0.0)).values():
        np.testing.assert_array_equal(steps["action"], steps["visits"].argmax(axis=1))


def test_temperature_ends_after_its_plies():
    play = PlaySettings(simulations=12, temperature=1.0, temperature_plies=3, last_opening=4)
    drawn = [games(play, range(60), lanes=30)[number][0] for number in range(60)]
    early = np.concatenate([steps["action"] != steps["visits"].argmax(axis=1) for steps in (s[:3] for s in drawn)])
    late = np.concatenate([steps["action"] != steps["visits"].argmax(axis=1) for steps in (s[3:] for s in drawn)])
    assert early.mean() > 0.2
    assert not late.any()


def test_a_high_temperature_evens_out_and_a_low_one_sharpens():
    def share_of_best(temperature):
        play = PlaySettings(simulations=0, temperature=temperature, temperature_plies=64)
        steps = np.concatenate([steps for steps, _ in games(play, range(100), lanes=50).values()])
        own, opp = steps["own"].copy(), steps["opp"].copy()
        _, _, priors = search.search_positions(disc_counting, own, opp, 0)
        choice = (priors > 0).sum(axis=1) > 1
        return (steps["action"] == priors.argmax(axis=1))[choice].mean()

    assert share_of_best(0.02) > 0.9 > 0.5 > share_of_best(10.0)


def test_noise_changes_what_is_searched():
    quiet, noisy = PlaySettings(simulations=20, temperature=0.0), PlaySettings(20, temperature=0.0, noise_weight=0.5)
    differ = [games(quiet)[n][0].tobytes() != games(noisy)[n][0].tobytes() for n in range(6)]
    assert all(differ)
    assert games(noisy)[0][0].tobytes() == games(noisy)[0][0].tobytes()


def test_a_pass_is_a_step_of_its_own():
    played = games(PlaySettings(simulations=0), range(200), lanes=64)
    assert any((steps["action"] == PASS).any() for steps, _ in played.values())
