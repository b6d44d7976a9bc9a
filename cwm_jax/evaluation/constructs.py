"""What a program holds that may be hard to predict: loops, recursion, exceptions, and so on, read off its syntax."""

import ast

_NODES: dict[str, tuple[type[ast.AST], ...]] = {
    "for loop": (ast.For, ast.AsyncFor),
    "while loop": (ast.While,),
    "condition": (ast.If, ast.IfExp),
    "comprehension": (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    "generator": (ast.Yield, ast.YieldFrom),
    "exception": (ast.Try, ast.Raise, ast.Assert),
    "class": (ast.ClassDef,),
    "closure or lambda": (ast.Lambda, ast.Nonlocal),
    "with": (ast.With, ast.AsyncWith),
    "indexing": (ast.Subscript,),
    "f-string": (ast.JoinedStr,),
    "arithmetic": (ast.BinOp, ast.AugAssign),
    "unpacking": (ast.Starred, ast.Tuple),
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
    functions = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if any(_calls(one, one.name) for one in functions):
        found.append("recursion")
    if len(functions) > 2:  # the marked one and the one it calls
        found.append("several functions")
    return found


def _calls(function: ast.AST, name: str) -> bool:
    return any(isinstance(node, ast.Call) and _name(node.func) == name for node in ast.walk(function))


def _name(called: ast.expr) -> str | None:
    return called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else None
