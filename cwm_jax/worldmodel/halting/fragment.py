"""The fragment of Python in which a state that comes back proves that a program never ends.

A program of the fragment does next what its visible state says: the place in the function that runs, its variables with
all that they hold, and the module's. For that, everything that could carry state elsewhere stays out: imports, classes,
closures, attributes, generators, `try`, sets (their order depends on their history), mutable defaults, identity of
anything but None, True and False, and objects whose text holds an address. What a value may be is checked as the
program runs (`child/states.py`); together they are an allow-list, so that what nobody thought of is outside.
"""

import ast
import builtins

FUNCTIONS = {
    "abs", "all", "any", "bin", "bool", "chr", "dict", "divmod", "float", "hex", "int", "isinstance", "len", "list",
    "max", "min", "oct", "ord", "pow", "print", "range", "repr", "round", "sorted", "str", "sum", "tuple",
}  # fmt: skip
LAZY = {"enumerate", "reversed", "zip"}  # their objects' text holds an address: only where they are used up at once
_CONSUMERS = {"all", "any", "dict", "list", "max", "min", "sorted", "sum", "tuple", *LAZY}
_CONSUMING_METHODS = {"extend", "join", "update"}
METHODS = _CONSUMING_METHODS | {
    "append", "clear", "copy", "count", "index", "insert", "pop", "remove", "reverse", "sort", "capitalize",
    "casefold", "center", "endswith", "find", "isalnum", "isalpha", "isdecimal", "isdigit", "islower", "isnumeric",
    "isspace", "istitle", "isupper", "ljust", "lower", "lstrip", "partition", "removeprefix", "removesuffix",
    "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith",
    "strip", "swapcase", "title", "upper", "zfill", "get", "items", "keys", "popitem", "setdefault", "values",
    "bit_length", "is_integer",
}  # fmt: skip
REMOVING = {"clear", "pop", "popitem", "remove"}  # leave a dict with a layout that its items do not tell
_KEYWORDS = {"key", "reverse", "default", "sep", "end", "start", "base", "ndigits", "strict", "maxsplit", "keepends"}
_NODES = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For,
    ast.While, ast.If, ast.Expr, ast.Pass, ast.Break, ast.Continue, ast.Delete, ast.Assert, ast.Raise, ast.Global,
    ast.BoolOp, ast.NamedExpr, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Dict, ast.ListComp, ast.DictComp,
    ast.GeneratorExp, ast.comprehension, ast.Compare, ast.Call, ast.keyword, ast.Constant, ast.Subscript, ast.Starred,
    ast.Name, ast.List, ast.Tuple, ast.Slice, ast.JoinedStr, ast.FormattedValue, ast.expr_context, ast.boolop,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_CONSTANTS = (int, float, str, type(None), type(...))  # bool among them
_ANNOTATIONS = (ast.Name, ast.Constant, ast.Subscript, ast.Tuple, ast.List, ast.BinOp, ast.BitOr, ast.Load)
_BUILTINS = frozenset(dir(builtins))


class Outside(ValueError):
    """The program leaves the fragment; the message names the construct and its line."""

    def __init__(self, node: ast.AST, what: str):
        super().__init__(f"line {getattr(node, 'lineno', '?')}: {what}")


def check(tree: ast.Module) -> None:
    """Nothing, if the program lies in the fragment.

    Raises:
      Outside: it does not.
    """
    _Checker(tree).visit(tree)


def own_functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    """The functions of the module, by name."""
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def removes(tree: ast.Module) -> bool:
    """Whether the program may remove items from a dict."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr in REMOVING)
        or (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Del))
        for node in ast.walk(tree)
    )


class _Checker(ast.NodeVisitor):
    def __init__(self, tree: ast.Module):
        self._own = own_functions(tree)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)]
        arguments = [node for node in ast.walk(tree) if isinstance(node, ast.arg)]
        self._bound = {node.id for node in names} | {node.arg for node in arguments}
        self._top = set(map(id, tree.body))
        for node in (*names, *arguments):
            if (name := getattr(node, "id", getattr(node, "arg", ""))) in self._own:
                raise Outside(node, f"binds {name!r}, the name of a function, anew")
            if name.startswith("__"):
                raise Outside(node, f"binds {name!r}")
        if len(self._own) < sum(isinstance(node, ast.FunctionDef) for node in tree.body):
            raise Outside(tree.body[-1], "defines a function twice")

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _NODES):
            raise Outside(node, f"`{ast.unparse(node).splitlines()[0][:60]}`" if hasattr(node, "lineno") else "syntax")
        super().generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if id(node) not in self._top:
            raise Outside(node, f"the function {node.name!r} inside a block")
        if node.decorator_list or node.args.vararg or node.args.kwarg or getattr(node, "type_params", None):
            raise Outside(node, f"decorators or starred parameters of {node.name!r}")
        if node.name in _BUILTINS or node.name.startswith("__"):
            raise Outside(node, f"a function called {node.name!r}")
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            if not _immutable(default):
                raise Outside(default, "a default that is no constant")
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            self._annotation(argument.annotation)
        self._annotation(node.returns)
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self._own:
            raise Outside(node, f"the function {node.id!r} as a value")
        free = isinstance(node.ctx, ast.Load) and node.id not in self._bound and node.id != "__name__"
        if free and (node.id in _BUILTINS or node.id.startswith("__")):
            raise Outside(node, f"{node.id!r} as a value")

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, _CONSTANTS):
            raise Outside(node, f"the constant {node.value!r}")

    def visit_Compare(self, node: ast.Compare) -> None:
        for operator, other in zip(node.ops, node.comparators):
            if isinstance(operator, (ast.Is, ast.IsNot)) and not _singleton(other):
                raise Outside(node, "`is` of anything but None, True and False")
        super().generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._consumed(node.iter)
        for child in (node.target, *node.body, *node.orelse):
            self.visit(child)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        if node.is_async:
            raise Outside(node.iter, "an asynchronous comprehension")
        self._consumed(node.iter)
        for child in (node.target, *node.ifs):
            self.visit(child)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        raise Outside(node, "a generator that is not used up where it stands")

    def visit_Raise(self, node: ast.Raise) -> None:
        name = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        kind = getattr(builtins, name.id, None) if isinstance(name, ast.Name) and name.id not in self._bound else None
        if node.cause is not None or not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise Outside(node, "`raise` of anything but an exception of Python's own")
        if isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                self.visit(argument)
            if node.exc.keywords:
                raise Outside(node, "an exception with keywords")

    def visit_Call(self, node: ast.Call) -> None:
        self._call(node, consumed=False)

    def _call(self, node: ast.Call, consumed: bool) -> None:
        match node.func:
            case ast.Name(name) if name in self._own:
                consumes, keywords = False, None
            case ast.Name(name) if name in FUNCTIONS | LAZY and name not in self._bound:
                if name in LAZY and not consumed:
                    raise Outside(node, f"{name}() that is not used up where it stands")
                if name == "isinstance" and len(node.args) == 2:
                    self._types(node.args[1])
                    node = ast.copy_location(ast.Call(node.func, node.args[:1], node.keywords), node)
                consumes, keywords = name in _CONSUMERS, _KEYWORDS
            case ast.Attribute(value, name) if name in METHODS:
                self.visit(value)
                consumes, keywords = name in _CONSUMING_METHODS, _KEYWORDS
            case called:
                raise Outside(node, f"a call of `{ast.unparse(called)[:60]}`")
        for argument in node.args:
            (self._consumed if consumes else self.visit)(argument)
        for keyword in node.keywords:
            if keyword.arg is None or (keywords is not None and keyword.arg not in keywords):
                raise Outside(node, f"the argument {ast.unparse(keyword)!r}")
            if keywords is None or keyword.arg != "key" or not self._callable(keyword.value):
                self.visit(keyword.value)

    def _consumed(self, node: ast.expr) -> None:
        """Visits what is iterated over where it stands."""
        if isinstance(node, ast.GeneratorExp):
            super().generic_visit(node)
        elif isinstance(node, ast.Call):
            self._call(node, consumed=True)
        else:
            self.visit(node)

    def _callable(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and (node.id in self._own or node.id in FUNCTIONS - self._bound)

    def _types(self, node: ast.expr) -> None:
        for one in node.elts if isinstance(node, ast.Tuple) else [node]:
            if not isinstance(one, ast.Name) or one.id not in FUNCTIONS - self._bound:
                raise Outside(one, f"isinstance() of `{ast.unparse(one)[:60]}`")

    def _annotation(self, node: ast.expr | None) -> None:
        for part in ast.walk(node) if node is not None else ():
            if not isinstance(part, _ANNOTATIONS):
                raise Outside(part, "an annotation that is more than names")


def _immutable(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant)
    if isinstance(node, ast.Tuple):
        return all(map(_immutable, node.elts))
    return isinstance(node, ast.Constant)


def _singleton(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool))
