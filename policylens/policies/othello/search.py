"""Monte Carlo tree search (PUCT) in many games at once.

Each *lane* holds one tree. A lane simulates until a leaf needs the network; the leaves of all lanes are then
evaluated in one batch. A search ends when the root has a given number of visits, those kept from the previous
move's tree included, so a tree never has more nodes than that and its memory is bounded.

Values are expected outcomes in [-1, 1] from the view of the side to move at the node; an edge's value is from
the view of the side that moves along it. PUCT as in Silver et al., Science 362 (2018), with a constant
exploration factor; an unvisited move counts as the node's value less a fixed reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.othello.rules import (
    ACTIONS,
    LONGEST_GAME,
    ONE,
    ZERO,
    disc_difference,
    legal_actions,
    lowest,
    play,
)

# Bitboards (n,), (n,) -> unmasked logits float32 (n, 37), values float32 (n,) for the side to move.
Evaluate = Callable[[NDArray[np.uint64], NDArray[np.uint64]], tuple[NDArray[np.float32], NDArray[np.float32]]]

EVALUATED, OVER = 1, 2  # a node's status; 0 is a node that still waits for the network
NO_CHILD = -1
_EDGES_PER_NODE = 16  # mean of the most mobile trees; a tree that needs more is refused, not overrun

NODE = np.dtype([("own", "u8"), ("opp", "u8"), ("value", "f4"), ("first", "i4"), ("edges", "i4"), ("status", "i4")])
EDGE = np.dtype([("prior", "f4"), ("total", "f4"), ("visits", "i4"), ("child", "i4"), ("action", "i4")])
LANE = np.dtype([("nodes", "i4"), ("edges", "i4"), ("leaf", "i4"), ("depth", "i4"), ("full", "i4")])


class Trees(NamedTuple):
    """One tree per lane; node 0 is the root.

    nodes: NODE (lanes, n); edges: EDGE (lanes, e), those of a node lie together; lanes: LANE (lanes,);
    path: int32 (lanes, plies), the edges from the root to the lane's leaf; entry: int32 (n,), scratch.
    """

    nodes: NDArray
    edges: NDArray
    lanes: NDArray
    path: NDArray
    entry: NDArray


class Puct(NamedTuple):
    """exploration: the factor c of the prior's term; reduction: by how much an unvisited move is rated lower."""

    exploration: float = 1.5
    reduction: float = 0.2


def plant(lanes: int, visits: int) -> Trees:
    """Empty trees for searches of up to `visits` visits at the root."""
    nodes = visits + 2
    return Trees(
        nodes=np.zeros((lanes, nodes), NODE),
        edges=np.zeros((lanes, nodes * _EDGES_PER_NODE + ACTIONS), EDGE),
        lanes=np.zeros(lanes, LANE),
        path=np.zeros((lanes, LONGEST_GAME), np.int32),
        entry=np.zeros(nodes, np.int32),
    )


@njit(cache=True)
def _add_node(trees, lane, own, opp):
    """Append a node with its edges; -1, and the lane marked full, where the memory ends."""
    tree = trees.lanes[lane]
    number, first = tree.nodes, tree.edges
    if number >= trees.nodes.shape[1] or first + ACTIONS > trees.edges.shape[1]:
        tree.full = 1
        return -1
    actions = legal_actions(own, opp)
    node = trees.nodes[lane, number]
    node.own, node.opp, node.first, node.status = own, opp, first, 0
    if actions == ZERO:
        node.value, node.status = np.sign(disc_difference(own, opp)), OVER
    count = 0
    while actions != ZERO:
        edge = trees.edges[lane, first + count]
        edge.prior, edge.total, edge.visits, edge.child = 0.0, 0.0, 0, NO_CHILD
        edge.action = lowest(actions)
        actions &= actions - ONE
        count += 1
    node.edges = count
    tree.nodes, tree.edges = number + 1, first + count
    return number


@njit(cache=True)
def plant_root(trees, lane, own, opp):
    """Start the lane's tree anew at a position."""
    tree = trees.lanes[lane]
    tree.nodes, tree.edges, tree.leaf, tree.depth = 0, 0, 0, 0
    _add_node(trees, lane, own, opp)


@njit(cache=True)
def root_visits(trees, lane):
    """How many simulations have passed through the lane's root."""
    root = trees.nodes[lane, 0]
    visits = 0
    for edge in range(root.first, root.first + root.edges):
        visits += trees.edges[lane, edge].visits
    return visits


@njit(cache=True)
def _best_edge(trees, lane, node, puct):
    visits = 0
    for index in range(node.first, node.first + node.edges):
        visits += trees.edges[lane, index].visits
    factor = puct.exploration * np.sqrt(visits + 1.0)
    unvisited = node.value - puct.reduction
    best, best_score = node.first, -1e9
    for index in range(node.first, node.first + node.edges):
        edge = trees.edges[lane, index]
        mean = edge.total / edge.visits if edge.visits > 0 else unvisited
        score = mean + factor * edge.prior / (1.0 + edge.visits)
        if score > best_score:
            best, best_score = index, score
    return best


@njit(cache=True)
def _descend(trees, lane, puct):
    """Walk from the root to a leaf: a finished position, or a new node, which waits for the network."""
    tree = trees.lanes[lane]
    number, depth = 0, 0
    while trees.nodes[lane, number].status == EVALUATED:
        node = trees.nodes[lane, number]
        index = _best_edge(trees, lane, node, puct)
        trees.path[lane, depth] = index
        depth += 1
        edge = trees.edges[lane, index]
        if edge.child == NO_CHILD:
            own, opp = play(node.own, node.opp, edge.action)
            edge.child = _add_node(trees, lane, own, opp)
            if tree.full:
                return
        number = edge.child
    tree.leaf, tree.depth = number, depth


@njit(cache=True)
def _back_up(trees, lane, value):
    """Add a leaf's value to the edges of the path that led to it, from each mover's view in turn."""
    for depth in range(trees.lanes[lane].depth - 1, -1, -1):
        value = -value
        edge = trees.edges[lane, trees.path[lane, depth]]
        edge.visits += 1
        edge.total += value


@njit(cache=True)
def search(trees, lane, visits, puct):
    """Simulate until the root has `visits` visits (True), or the lane's leaf waits for the network (False)."""
    tree = trees.lanes[lane]
    if trees.nodes[lane, 0].status == 0:
        tree.leaf, tree.depth = 0, 0
        return False
    done = root_visits(trees, lane)
    while done < visits:
        _descend(trees, lane, puct)
        if tree.full or trees.nodes[lane, tree.leaf].status == 0:
            return False
        _back_up(trees, lane, trees.nodes[lane, tree.leaf].value)
        done += 1
    return True


@njit(cache=True)
def absorb(trees, waiting, logits, values):
    """Give the leaves of the lanes `waiting` (n,) their priors and values: logits (n, 37), values (n,)."""
    for row in range(waiting.shape[0]):
        lane = waiting[row]
        node = trees.nodes[lane, trees.lanes[lane].leaf]
        edges = trees.edges[lane]
        largest = -np.inf
        for index in range(node.first, node.first + node.edges):
            largest = max(largest, logits[row, edges[index].action])
        total = 0.0
        for index in range(node.first, node.first + node.edges):
            edges[index].prior = np.exp(logits[row, edges[index].action] - largest)
            total += edges[index].prior
        for index in range(node.first, node.first + node.edges):
            edges[index].prior /= total
        node.value, node.status = values[row], EVALUATED
        _back_up(trees, lane, values[row])


@njit(cache=True)
def advance_root(trees, lane, action):
    """Make the position after `action` the root; of the tree only what lies below it is kept."""
    root = trees.nodes[lane, 0]
    for index in range(root.first, root.first + root.edges):
        edge = trees.edges[lane, index]
        if edge.action == action:
            if edge.child == NO_CHILD:
                own, opp = play(root.own, root.opp, action)
                plant_root(trees, lane, own, opp)
            else:
                _keep_below(trees, lane, edge.child)
            return


@njit(cache=True)
def _keep_below(trees, lane, top):
    """Move the subtree under node `top` to the front of the lane's memory.

    Parents come before their children in memory, as do their edges, so one pass in place suffices: `entry`
    remembers, for each node kept, the edge that leads to it.
    """
    tree, nodes, edges, entry = trees.lanes[lane], trees.nodes[lane], trees.edges[lane], trees.entry
    entry[: tree.nodes] = -1
    kept, kept_edges = 0, 0
    for number in range(top, tree.nodes):
        if number != top and entry[number] < 0:
            continue
        first, count = nodes[number].first, nodes[number].edges
        for offset in range(count):
            edges[kept_edges + offset] = edges[first + offset]
            child = edges[kept_edges + offset].child
            if child != NO_CHILD:
                entry[child] = kept_edges + offset
        nodes[kept] = nodes[number]
        nodes[kept].first = kept_edges
        if number != top:
            edges[entry[number]].child = kept
        kept += 1
        kept_edges += count
    tree.nodes, tree.edges, tree.leaf, tree.depth = kept, kept_edges, 0, 0


@njit(cache=True)
def read_root(trees, lane, visits):
    """Write the root's visits per action into `visits` (37,) and return the root's value.

    The value is the mean over simulations, or the network's own where there were none.
    """
    root = trees.nodes[lane, 0]
    visits[:] = 0
    count, total = 0, 0.0
    for index in range(root.first, root.first + root.edges):
        edge = trees.edges[lane, index]
        visits[edge.action] = edge.visits
        count += edge.visits
        total += edge.total
    return total / count if count > 0 else np.float64(root.value)


@njit(cache=True)
def _search_all(trees, visits, puct, waiting, own, opp):
    """Run every lane until it waits or is done; list the waiting lanes and their leaves. Returns how many."""
    count = 0
    for lane in range(trees.lanes.shape[0]):
        if trees.nodes[lane, 0].status != OVER and not search(trees, lane, visits, puct):
            leaf = trees.nodes[lane, trees.lanes[lane].leaf]
            waiting[count], own[count], opp[count] = lane, leaf.own, leaf.opp
            count += 1
    return count


@njit(cache=True)
def _plant_all(trees, own, opp):
    for lane in range(own.shape[0]):
        plant_root(trees, lane, own[lane], opp[lane])


def check_memory(trees: Trees) -> None:
    """Raise UserError if a lane ran out of memory (its search is then void)."""
    if trees.lanes["full"].any():
        raise UserError(
            "a search tree outgrew its memory: its positions have more legal moves than any known game of "
            "6x6 Othello; check that the observations are positions of the game"
        )


def search_positions(
    evaluate: Evaluate,
    own: NDArray[np.uint64],
    opp: NDArray[np.uint64],
    simulations: int,
    puct: Puct = Puct(),  # noqa: B008 (an immutable tuple)
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float32]]:
    """Search each position from scratch, without noise.

    own, opp: uint64 (n,) positions with at least one legal action. simulations: visits at each root; with 0 the
    network's own policy is all there is.

    Returns visits int32 (n, 37), values (n,) for the side to move, and the network's priors float32 (n, 37).
    """
    lanes = len(own)
    trees = plant(lanes, simulations)
    _plant_all(trees, own, opp)
    waiting = np.empty(lanes, np.int64)
    leaf_own, leaf_opp = np.empty(lanes, np.uint64), np.empty(lanes, np.uint64)
    while count := _search_all(trees, simulations, puct, waiting, leaf_own, leaf_opp):
        check_memory(trees)
        absorb(trees, waiting[:count], *evaluate(leaf_own[:count], leaf_opp[:count]))
    visits, values = np.zeros((lanes, ACTIONS), np.int32), np.zeros(lanes)
    priors = np.zeros((lanes, ACTIONS), np.float32)
    for lane in range(lanes):
        values[lane] = read_root(trees, lane, visits[lane])
        edges = trees.edges[lane, : trees.nodes[lane, 0]["edges"]]
        priors[lane, edges["action"]] = edges["prior"]
    return visits, values, priors
