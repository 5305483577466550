"""Matches, games in the terminal, strength, and drawings."""

import xml.etree.ElementTree as ElementTree

import jsonschema
import numpy as np
import pytest
from othello_reference import PASS, START, actions, after, board, boards, perfect, random_position
from othello_small import RECORD, disc_counting, even_handed, small_checkpoint, small_policy
from support import refused

from policylens.policies.othello import play, strength
from policylens.policies.othello.drawing import draw
from policylens.policies.othello.evaluation import PolicyEvaluator
from policylens.policies.othello.family import FAMILY
from policylens.policies.othello.match import Tally, play_pairs, random_positions
from policylens.policies.othello.opponents import opponent, searching
from policylens.policies.othello.squares import square_name
from policylens.policies.othello.strength import DEFAULTS, Endgames, evaluate


def test_a_match_is_seen_from_the_first_agent():
    strong, weak = opponent("alphabeta-3"), opponent("random")
    tally = play_pairs(strong, weak, range(15), 4, seed=0)
    assert tally.games == 30
    assert tally.score > 0.8
    assert play_pairs(weak, strong, range(15), 4, seed=0).score < 0.2


def test_an_agent_against_itself_wins_what_it_loses():
    def lowest(own, opp, streams):
        return np.array([min(actions(cells(a, b))) for a, b in zip(own, opp, strict=True)])

    tally = play_pairs(lowest, lowest, range(20), 3, seed=1)
    assert tally.wins == tally.losses  # both games of a pair are the same game, with the names exchanged


def cells(own, opp):
    return tuple((int(own) >> square & 1) - (int(opp) >> square & 1) for square in range(36))


def test_pairs_do_not_depend_on_what_is_played_beside_them():
    agents = opponent("greedy"), opponent("random")
    whole = play_pairs(*agents, range(8), 5, seed=2)
    parts = [play_pairs(*agents, numbers, 5, seed=2) for numbers in ([0, 1, 2], [3], [4, 5, 6, 7])]
    assert sum(parts[1:], parts[0]) == whole
    assert Tally(1, 2, 1).score == 0.5


def test_openings_are_random_and_unfinished():
    own, opp = random_positions(6, range(50), seed=0)
    assert len(set(zip(own.tolist(), opp.tolist(), strict=True))) > 40
    assert all(actions(cells(a, b)) for a, b in zip(own, opp, strict=True))
    assert all(36 - cells(a, b).count(0) >= 4 + 5 for a, b in zip(own, opp, strict=True))


# Strength


def test_endgames_are_decided_by_the_move_and_solved():
    found = Endgames(12, 5, seed=0)
    for row, position in enumerate(cells(a, b) for a, b in zip(found.own, found.opp, strict=True)):
        assert position.count(0) == 5
        values = {action: -perfect(after(position, action)) for action in actions(position)}
        assert {action: int(found.values[row, action]) for action in values} == values
        assert set(np.flatnonzero(found.legal[row])) == set(values)
        assert len({np.sign(value) for value in values.values()}) > 1
        best = max(values.values())
        right = {action for action, value in values.items() if np.sign(value) == np.sign(best)}
        assert set(np.flatnonzero(found.right()[row])) == right
        for action, value in values.items():
            assert found.regret()[row, action] == best - value


QUICK = {
    "simulations": [0, 8],
    "games": 10,
    "opponents": ["random", "alphabeta-1"],
    "endgames": 10,
    "endgame_empties": 6,
}


def test_strength_counts_games_and_endgames():
    jsonschema.validate(QUICK, FAMILY.settings["strength"])
    assert FAMILY.settings["strength"]["properties"].keys() == DEFAULTS.keys()
    found = evaluate(small_policy(), QUICK, seed=0)
    assert found == evaluate(small_policy(), QUICK, seed=0)
    assert found["games"].keys() == {"network", "mcts-8"}
    for results in found["games"].values():
        assert results.keys() == {"random", "alphabeta-1"}
        for tally in results.values():
            assert tally["wins"] + tally["draws"] + tally["losses"] == tally["n"] == 10
            assert tally["successes"] == tally["wins"]
            assert tally["score"] == pytest.approx((tally["wins"] + tally["draws"] / 2) / 10)
    endgames = found["endgames"]
    assert endgames.keys() == {"random", "network", "mcts-8", "value_sign"}
    assert 0 < endgames["random"]["expected_rate"] < 1
    assert endgames["network"]["n"] == 10


def test_a_perfect_player_is_always_right_and_a_search_better_than_chance(monkeypatch):
    monkeypatch.setattr(strength, "PolicyEvaluator", lambda policy: perfectly)
    settings = {**QUICK, "opponents": [], "endgames": 15, "endgame_empties": 4}
    found = evaluate(None, settings, seed=1)["endgames"]
    assert found["network"] == {"successes": 15, "n": 15, "mean_regret": 0.0}
    assert found["value_sign"]["successes"] == found["value_sign"]["n"]
    monkeypatch.setattr(strength, "PolicyEvaluator", lambda policy: even_handed)
    searched = evaluate(None, {**settings, "simulations": [1500]}, seed=1)["endgames"]
    assert searched["mcts-1500"]["successes"] / 15 > searched["random"]["expected_rate"] + 0.2


def perfectly(own, opp):
    """Logits and values from trying everything."""
    logits, values = np.full((len(own), 37), -99.0, np.float32), np.zeros(len(own), np.float32)
    for row, position in enumerate(cells(a, b) for a, b in zip(own, opp, strict=True)):
        for action in actions(position):
            logits[row, action] = -perfect(after(position, action))
        values[row] = np.sign(perfect(position))
    return logits, values


# Terminal


def play_with(answers, **options):
    """The lines that a person sees who answers so."""
    lines, answers = [], iter(answers)

    def ask(prompt):
        try:
            return next(answers)
        except StopIteration:
            raise EOFError from None

    settings = {"simulations": 2, "person_first": True, **options}
    play.play_person(disc_counting, settings["simulations"], settings["person_first"], ask, lines.append)
    return lines


def test_the_board_has_coordinates_discs_and_legal_squares():
    (own,), (opp,) = boards([START])
    assert play.board_text(own, opp, "X").splitlines() == [
        "    a b c d e f",
        "  1 . . . . . .",
        "  2 . . * . . .",
        "  3 . * O X . .",
        "  4 . . X O * .",
        "  5 . . . * . .",
        "  6 . . . . . .",
    ]
    assert play.board_text(opp, own, "O").splitlines()[3] == "  3 . . O X * ."


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("a1", 0),
        ("F1", 5),
        (" c4 ", 20),
        ("f6", 35),
        ("Pass", PASS),
        ("g1", None),
        ("a7", None),
        ("", None),
        ("a11", None),
    ],
)
def test_input_is_read_as_a_square(text, action):
    assert play.parse_action(text) == action
    if action is not None and action != PASS:
        assert square_name(action) == text.strip().lower()


def test_an_illegal_move_is_asked_for_again():
    lines = play_with(["a1", "nonsense", "c2", "quit"])
    refusals = [line for line in lines if "not a legal move" in line]
    assert len(refusals) == 2
    assert "c2, b3, e4, d5" in refusals[0]
    assert sum("The policy plays" in line for line in lines) == 1
    assert lines[-1] == "You left the game."


def test_the_end_of_input_ends_the_game():
    assert play_with([])[-1] == "You left the game."


@pytest.mark.parametrize("person_first", [True, False])
@pytest.mark.parametrize("simulations", [0, 5])
def test_a_game_can_be_played_to_its_end(person_first, simulations):
    lines = []

    def take_the_first(prompt):
        """Play any square: what is illegal is answered with what is legal."""
        said = lines[-1]
        if "not a legal move" in said:
            return said.split("you can play ")[1].split(",")[0]
        return "zz"

    play.play_person(disc_counting, simulations, person_first, take_the_first, lines.append)
    assert lines[-1].split(":")[0] in ("You win", "You lose", "A draw")
    discs = [int(word) for word in lines[-1].replace(",", "").replace(".", "").split() if word.isdigit()]
    assert sum(discs) == 36
    shown = lines[-2]
    assert [shown.count("X"), shown.count("O")] == discs[:2]
    mine = discs[0] if person_first else discs[1]
    theirs = discs[1] if person_first else discs[0]
    assert lines[-1].startswith("You win" if mine > theirs else "You lose" if mine < theirs else "A draw")


def test_the_command_plays_a_match(tmp_path, capsys):
    folder = small_checkpoint(tmp_path / "small")
    play.main(folder, ["--against", "random", "--games", "4", "--simulations", "2"])
    assert "small:2 against random: " in capsys.readouterr().out
    play.main(folder, ["--against", f"{folder}:0", "--games", "2", "--simulations", "0"])
    assert "of 2 games, score 0.500" in capsys.readouterr().out
    with refused("--games", "even"):
        play.main(folder, ["--against", "random", "--games", "3"])
    with refused("nobody", "alphabeta-<depth>"):
        play.main(folder, ["--against", "nobody"])


def test_a_checkpoint_of_another_family_cannot_play(tmp_path, monkeypatch):
    monkeypatch.setattr(play, "load_policy", lambda folder: small_policy_called("heist"))
    with refused("heist", "does not play Othello"):
        play.main(tmp_path, [])


def small_policy_called(family):
    policy = small_policy()
    policy.record = {**RECORD, "family": family}
    return policy


# Drawings


def test_a_drawing_shows_discs_mark_and_values():
    values = [0.0] * 36
    values[8], values[13] = 2.0, -1.0
    root = ElementTree.fromstring(draw(START, marked=8, values=values, title='<b> & "x"'))
    names = [element.tag.split("}")[1] for element in root]
    assert names.count("circle") == 4
    assert [element.text for element in root if element.tag.endswith("title")] == ['<b> & "x"']
    tints = [element.attrib for element in root if "fill-opacity" in element.attrib]
    assert [tint["fill-opacity"] for tint in tints] == ["1.000", "0.500"]
    assert tints[0]["fill"] != tints[1]["fill"]
    marks = [element.attrib for element in root if element.attrib.get("stroke-width") == "3"]
    assert len(marks) == 1
    assert float(marks[0]["x"]) == float(tints[0]["x"]) + 2  # on c2, as its tint
    letters = [element.text for element in root if element.tag.endswith("text")]
    assert sorted(letters) == sorted("abcdef123456")


def test_drawings_are_deterministic_and_plain_without_extras():
    assert draw(START) == draw(np.array(START, np.int8))
    assert draw(START) != draw(board("X..... " + "...... " * 5))
    assert draw(START, marked=PASS).count("stroke-width") == 0
    assert "fill-opacity" not in draw(START, values=[float("nan")] * 36)
    assert "d3 c4" in draw(START)
    with pytest.raises(ValueError, match="36 squares"):
        draw(START[:-1])


def test_a_written_checkpoint_plays_what_the_policy_plays(tmp_path):
    folder = small_checkpoint(tmp_path / "small")
    own, opp = boards([random_position(seed) for seed in range(10)])
    streams = np.zeros(10, np.uint64)
    loaded = play.agent(f"{folder}:6")(own, opp, streams)
    np.testing.assert_array_equal(loaded, searching(PolicyEvaluator(small_policy()), 6)(own, opp, streams))
