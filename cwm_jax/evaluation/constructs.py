"""What a program holds that may be hard to predict: loops, recursion, exceptions, and so on, read off its syntax."""

import ast

from cwm_jax.tracing.source import FUNCTIONS

_NODES: dict[str, tuple[type[ast.AST], ...]] = {
    "for loop": (ast.For, ast.AsyncFor),
    "while loop": (ast.While,),
    "condition": (ast.If, ast.IfExp),
    "comprehension": (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    "generator": (ast.Yield, ast.YieldFrom),
    "exception": (ast.Try, ast.Raise, ast.Assert),
    "class": (ast.ClassDef,),
    "lambda": (ast.Lambda,),
    "with": (ast.With, ast.AsyncWith),
    "indexing": (ast.Subscript,),
    "f-string": (ast.JoinedStr,),
    "arithmetic": (ast.BinOp, ast.AugAssign),
    "attribute or method": (ast.Attribute,),
    "dict or set": (ast.Dict, ast.Set),
}


def constructs(context: str) -> list[str]:
    """The constructs in a program, in a fixed order; none where it does not parse."""
    try:
        tree = ast.parse(context)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    nodes = list(ast.walk(tree))
    found = [name for name, kinds in _NODES.items() if any(isinstance(node, kinds) for node in nodes)]
    functions = [node for node in nodes if isinstance(node, FUNCTIONS)]
    if any(isinstance(node, (ast.Tuple, ast.Starred)) and isinstance(node.ctx, ast.Store) for node in nodes):
        found.append("unpacking")
    if any(inner in functions for one in functions for inner in list(ast.walk(one))[1:]):
        found.append("closure")
    if any(_calls_itself(one) for one in functions):
        found.append("recursion")
    if len(functions) > 2:  # the marked one and the one it calls
        found.append("several functions")
    return found


def _calls_itself(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function calls its own name, as a method that of `self` or `cls`."""
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(name)) if name == function.name:
                return True
            case ast.Call(func=ast.Attribute(ast.Name("self" | "cls"), name)) if name == function.name:
                return True
    return False
