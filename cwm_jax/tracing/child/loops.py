"""Which `for` loops and comprehensions run at an instruction, and where on the stack their iterators lie."""

import ast
import dis
import types
from collections import defaultdict

HEADS = {"FOR_ITER", "GET_ANEXT"}  # the iterator is on top of the stack
ENDS = {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD"}
ENDS |= {"JUMP_BACKWARD_NO_INTERRUPT"}
JUMPS = frozenset(dis.hasjrel + dis.hasjabs)
MOST_NAME = 100  # characters; our choice

Stack = tuple[str | None, ...]  # from the bottom: the name of the loop whose iterator lies there


class Loops:
    """The loops of a context's code, called by their source text, such as `for x in xs`."""

    def __init__(self, context: str):
        self._names = _names(context)

    def stacks(self, code: types.CodeType) -> dict[int, Stack]:
        """The stack before each instruction that has a loop's iterator on it, by offset."""
        instructions = {step.offset: step for step in dis.get_instructions(code)}
        following = dict(zip(instructions, [*instructions][1:]))
        names = self._by_offset(instructions.values())
        handlers = dis._parse_exception_table(code)
        stacks: dict[int, Stack] = {}
        todo: list[tuple[int, Stack]] = [(0, ())]
        while todo:
            at, stack = todo.pop()
            if at in stacks:
                continue
            step = instructions[at]
            if at in names:
                stack = (*stack[:-1], names[at])
            stacks[at] = stack
            for entry in handlers:
                if entry.start <= at < entry.end:
                    todo.append((entry.target, stack[: entry.depth] + (None,) * (1 + entry.lasti)))
            if step.opcode in JUMPS:
                todo.append((step.argval, _after(step, stack, True)))
            if step.opname not in ENDS:
                todo.append((following[at], _after(step, stack, False)))
        return {at: stack for at, stack in stacks.items() if any(stack)}

    def _by_offset(self, instructions) -> dict[int, str]:
        """The names of the loops by the offsets of their heads.

        The loops of one comprehension share a position and come in their order, again and again if it is
        compiled more than once, as in `finally`.
        """
        names, seen = {}, defaultdict(int)
        for step in instructions:
            if step.opname in HEADS:
                known = self._names.get(tuple(step.positions), ["for"])  # code from elsewhere under our file's name
                names[step.offset] = known[seen[step.positions] % len(known)]
                seen[step.positions] += 1
        return names


def _after(step: dis.Instruction, stack: Stack, jump: bool) -> Stack:
    if step.opname == "SWAP":
        swapped = list(stack)
        swapped[-1], swapped[-step.arg] = swapped[-step.arg], swapped[-1]
        return tuple(swapped)
    effect = dis.stack_effect(step.opcode, step.arg, jump=jump)
    return stack + (None,) * effect if effect > 0 else stack[: max(0, len(stack) + effect)]


def _names(context: str) -> dict[tuple, list[str]]:
    """The names of all loops by the positions that the compiler gives their heads; none if the context is no code."""
    try:
        nodes = list(ast.walk(ast.parse(context)))
    except Exception:  # too deep, or the program before turned warnings into errors
        return {}
    names = {}
    for node in nodes:
        if isinstance(node, (ast.For, ast.AsyncFor)):
            loops = [ast.comprehension(node.target, node.iter, [], isinstance(node, ast.AsyncFor))]
        else:
            loops = [ast.comprehension(g.target, g.iter, [], g.is_async) for g in getattr(node, "generators", ())]
        if loops:
            position = node.lineno, node.end_lineno, node.col_offset, node.end_col_offset
            names[position] = [ast.unparse(loop).strip()[:MOST_NAME] for loop in loops]
    return names
