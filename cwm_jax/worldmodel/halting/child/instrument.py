"""A program of the fragment with a watch in every loop, which changes nothing that it does.

    def f(n):                      def f(n):
                                       _W = _Watch("f")
        for x in xs:           →       for x in (_I0 := _iter(xs)):
                                           _W(0, _locals())
            n -= 1                         n -= 1
                                       _I0 = None

So the iterator of every running loop is among the variables, and a state is asked for where no expression is half done.
"""

import ast

_GUARDED = {"enumerate", "reversed", "zip"}


def instrument(tree: ast.Module, prefix: str, guarded: bool) -> tuple[ast.Module, list[int]]:
    """The tree with watches, and the line of each loop by its number.

    Args:
      tree: in the fragment; it is changed.
      prefix: begins no name of the program.
      guarded: whether iterating over a dict is refused.
    """
    change = _Instrument(prefix, guarded)
    tree.body = [change.watch("<module>"), *change.statements(tree.body)]
    return ast.fix_missing_locations(tree), change.lines


class _Instrument(ast.NodeTransformer):
    def __init__(self, prefix: str, guarded: bool):
        self._prefix, self._guarded = prefix, guarded
        self.lines: list[int] = []

    def statements(self, body: list[ast.stmt]) -> list[ast.stmt]:
        changed = []
        for statement in body:
            new = self.visit(statement)
            changed += new if isinstance(new, list) else [new]
        return changed

    def watch(self, name: str) -> ast.stmt:
        return ast.parse(f"{self._prefix}W = {self._prefix}Watch({name!r})").body[0]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.body = [self.watch(node.name), *self.statements(node.body)]
        return node

    def visit_While(self, node: ast.While) -> ast.While:
        self.lines.append(node.lineno)
        return self._see(node, len(self.lines) - 1)

    def visit_For(self, node: ast.For) -> list[ast.stmt]:
        self.lines.append(node.lineno)
        number = len(self.lines) - 1
        node = self._see(node, number)
        iterator = f"{self._prefix}I{number}"
        made = self._call("iter", self._guard(node.iter))
        node.iter = ast.NamedExpr(ast.Name(iterator, ast.Store()), made)
        return [node, ast.Assign([ast.Name(iterator, ast.Store())], ast.Constant(None), lineno=node.lineno)]

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        self.generic_visit(node)
        node.iter = self._guard(node.iter)
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        lazy = isinstance(node.func, ast.Name) and node.func.id in _GUARDED
        if lazy or any(keyword.arg == "key" for keyword in node.keywords):
            node.args = [one if isinstance(one, ast.Starred) else self._guard(one) for one in node.args]
        return node

    def _see(self, node, number: int):
        self.generic_visit(node)
        see = ast.parse(f"{self._prefix}W({number}, {self._prefix}locals())").body[0]
        node.body = [see, *node.body]
        return node

    def _guard(self, node: ast.expr) -> ast.expr:
        return self._call("guard", node) if self._guarded else node

    def _call(self, name: str, argument: ast.expr) -> ast.Call:
        return ast.Call(ast.Name(self._prefix + name, ast.Load()), [argument], [])
