"""Each object's attributes are assigned in the module of its class, and in at most one other that is named here.

Reads the sources: `name.attribute = …`, `name.attribute[key] = …` and `del` of both, where `name` is not `self`. The
class of `name` is known from annotations, from constructors that are called, or because only one class has the
attribute. An assignment whose class cannot be known by this is not judged.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

from tests.support.source_tree import module_name, sources, tree

SECOND_WRITERS: dict[str, str] = {
    "api.Message": "worker.loop",
    "api._GroupRecorder": "worker.life",
    "api._TraceContext": "worker.handler_call",
    "brokers.amqp.subscription.Subscription": "brokers.amqp.broker",
    "brokers.amqp.suspects.Unconfirmed": "brokers.amqp.publisher",
    "consumer.settlement.content_matches.ContentMatches": "consumer.turn.hearing",
    "consumer.settlement.refused_copies.RefusedCopies": "consumer.settlement.publications",
    "consumer.settlement.settlement.Settlement": "consumer.observe.file_watch",
    "consumer.settlement.unit_of_work.UnitOfWork": "consumer.settlement.settlement",
    "errors.ControlError": "control.protocol",
    "errors.PreforkdError": "cli.start",
    "hooks.job.Notification": "hooks.loop",
    "master.pool.pool.Pool": "master.pool.starts",
    "worker.requests.Requests": "worker.life",
}
"""Classes whose attributes one other module assigns, and that module."""

EXCEPTIONS: dict[str, tuple[set[str], str]] = {
    "consumer.settlement.messages.Entry": (
        {
            "consumer.settlement.assignments",
            "consumer.settlement.missing",
            "consumer.settlement.publications",
            "consumer.settlement.settlement",
        },
        "a row of the settlement, which is still in several files",
    ),
}
"""Classes that more modules write, those modules, and why. A table that may only shrink."""

Class = tuple[str, str]
"""A class: its module and its name."""

Scope = dict[str, "Class | None"]
"""The classes of a function's names, as far as they are known."""

_CONTAINER_METHODS = ("values", "items", "get", "pop", "copy")
_PASSED_ON = ("list", "tuple", "sorted", "filter", "reversed", "next", "iter", "set")


def test_the_attributes_of_an_object_are_assigned_by_its_own_module() -> None:
    writers = _foreign_writers()
    allowed = {name: {module} for name, module in SECOND_WRITERS.items()}
    allowed |= {name: modules for name, (modules, _reason) in EXCEPTIONS.items()}

    unlisted = {name: found - allowed.get(name, set()) for name, found in writers.items()}
    assert {name: found for name, found in unlisted.items() if found} == {}, (
        "give the class a method that says what happens, and call that"
    )


def test_no_exception_is_listed_that_is_not_needed_any_more() -> None:
    writers = _foreign_writers()
    unneeded = {name: modules - writers.get(name, set()) for name, (modules, _reason) in EXCEPTIONS.items()}

    assert {name: modules for name, modules in unneeded.items() if modules} == {}, "take them out of the table"
    assert [name for name, module in SECOND_WRITERS.items() if module not in writers.get(name, ())] == []
    assert SECOND_WRITERS.keys() & EXCEPTIONS.keys() == set()
    assert [name for name, (modules, _reason) in EXCEPTIONS.items() if len(modules) < 2] == [], "a second writer"


def test_assignments_to_other_objects_are_found() -> None:
    """The reading above, on a few lines of this kind."""
    text = (
        "def act(pools: Mapping[str, Pool], child: Child) -> None:\n"
        "    for pool in pools.values():\n"
        "        pool.paused, spec = None, pool.consumer\n"
        "        spec.due_s += 1.0\n"
        "    del child.intent\n"
    )
    module, pool, spec, child = "a.b", ("p", "Pool"), ("c", "ChildSpec"), ("c", "Child")
    names = {"Pool": pool, "ChildSpec": spec, "Child": child}
    book = _Book({module: names}, {pool: {"paused": None, "consumer": spec}, spec: {"due_s": None}, child: {}}, {})

    assert [each[:2] for each in book.writes(module, ast.parse(text))] == [
        (pool, "paused"),
        (spec, "due_s"),
        (child, "intent"),
    ]


class _Book:
    """What is known of all classes: the names of each module, attributes with their classes, methods with theirs."""

    def __init__(
        self,
        names: dict[str, dict[str, Class]],
        attributes: dict[Class, dict[str, Class | None]],
        methods: dict[Class, dict[str, Class | None]],
    ) -> None:
        self.names, self.attributes, self.methods = names, attributes, methods

    def writes(self, module: str, node: ast.AST) -> Iterator[tuple[Class | None, str, int]]:
        """Assignments to attributes of other objects in this module: class, attribute and line."""
        for scope, target in self._targets(module, node, {}):
            while isinstance(target, ast.Subscript):
                target = target.value
            if isinstance(target, ast.Attribute) and not _is_self(target.value):
                yield self.class_of(target.value, module, scope), target.attr, target.lineno

    def annotated(self, annotation: ast.expr | None, module: str) -> Class | None:
        """The one class of ours in an annotation; None for none, or several."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        found = {
            known
            for inner in (ast.walk(annotation) if annotation is not None else ())
            if isinstance(inner, ast.Name) and (known := self.names.get(module, {}).get(inner.id)) is not None
        }
        return found.pop() if len(found) == 1 else None

    def class_of(self, value: ast.expr, module: str, scope: Scope) -> Class | None:
        """The class of a value, or of what a container has; None where it is not known."""
        match value:
            case ast.Name(id=name):
                return scope.get(name)
            case ast.Attribute(value=inner, attr=attribute):
                return _member(self.attributes, self.class_of(inner, module, scope), attribute)
            case ast.Subscript(value=inner) | ast.Starred(value=inner) | ast.NamedExpr(value=inner):
                return self.class_of(inner, module, scope)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                known = self.names.get(module, {}).get(name)
                passed = name in _PASSED_ON and arguments
                return self.class_of(arguments[-1 if name == "filter" else 0], module, scope) if passed else known
            case ast.Call(func=ast.Attribute(value=inner, attr=method)):
                owner = self.class_of(inner, module, scope)
                returned = _member(self.methods, owner, method)
                return returned or (owner if method in _CONTAINER_METHODS else None)
            case ast.IfExp(body=first, orelse=second):
                return self.class_of(first, module, scope) or self.class_of(second, module, scope)
            case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
                return next(filter(None, (self.class_of(part, module, scope) for part in parts)), None)
            case ast.GeneratorExp() | ast.ListComp() | ast.SetComp():
                return self.class_of(value.elt, module, self._inside(value, module, scope))
        return None

    def _inside(self, value: ast.GeneratorExp | ast.ListComp | ast.SetComp, module: str, scope: Scope) -> Scope:
        scope = dict(scope)
        for part in value.generators:
            self._bind(part.target, part.iter, module, scope)
        return scope

    def _targets(self, module: str, node: ast.AST, scope: Scope) -> Iterator[tuple[Scope, ast.expr]]:
        """What is assigned to below this node, each with the names that are known there."""
        if isinstance(node, ast.ClassDef):
            scope = scope | {"self": self.names[module].get(node.name)}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            scope = scope | {each.arg: self.annotated(each.annotation, module) for each in every if each.annotation}
        if isinstance(node, ast.For):
            self._bind(node.target, node.iter, module, scope)
        for target, value in _assigned(node):
            if value is not None:
                self._bind(target, value, module, scope)
            yield from ((scope, single) for single in _single(target))
        for child in ast.iter_child_nodes(node):
            yield from self._targets(module, child, scope)

    def _bind(self, target: ast.expr, value: ast.expr, module: str, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            scope[target.id] = self.class_of(value, module, scope)
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for one, its in zip(target.elts, value.elts, strict=True):
                self._bind(one, its, module, scope)


@cache
def _foreign_writers() -> dict[str, set[str]]:
    """By class (`pool.Pool`), the modules that assign its attributes and are not its own."""
    book, writers = _book(), defaultdict[str, set[str]](set)
    for path in sources("supervisor"):
        module = module_name(path)
        for owner, attribute, _line in book.writes(module, tree(path)):
            having = [each for each, attributes in book.attributes.items() if attribute in attributes]
            owner = owner or (having[0] if len(having) == 1 else None)
            if owner is not None and owner[0] != module:
                writers[f"{owner[0].removeprefix('supervisor.')}.{owner[1]}"].add(module.removeprefix("supervisor."))
    return dict(writers)


@cache
def _book() -> _Book:
    defined = {
        (module_name(path), node.name): node
        for path in sources("supervisor")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }
    names: dict[str, dict[str, Class]] = {}
    for path in sources("supervisor"):
        module = module_name(path)
        own = {each[1]: each for each in defined if each[0] == module}
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                seen = {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
                own |= {name: each for name, each in seen.items() if each in defined}
        names[module] = own
    book = _Book(names, {each: {} for each in defined}, {each: {} for each in defined})
    for each, node in defined.items():
        _enter(book, each, node)
    return book


def _enter(book: _Book, owner: Class, node: ast.ClassDef) -> None:
    """Write down the attributes and methods of a class."""
    module, attributes = owner[0], book.attributes[owner]
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            attributes[each.target.id] = book.annotated(each.annotation, module)
        if not isinstance(each, ast.FunctionDef):
            continue
        returned = book.annotated(each.returns, module)
        is_property = any(isinstance(one, ast.Name) and one.id == "property" for one in each.decorator_list)
        (attributes if is_property else book.methods[owner])[each.name] = returned
        arguments = {one.arg: book.annotated(one.annotation, module) for one in each.args.args}
        for inner in ast.walk(each):
            for target, value in _assigned(inner):
                annotation = inner.annotation if isinstance(inner, ast.AnnAssign) else None
                for single in _single(target):
                    if isinstance(single, ast.Attribute) and _is_self(single.value):
                        known = book.annotated(annotation, module)
                        known = known or (book.class_of(value, module, arguments) if value is not None else None)
                        attributes[single.attr] = attributes.get(single.attr) or known


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """What a statement assigns to, with the value where there is one; what `del` removes, too."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((target, value) for target in targets)
        case ast.AnnAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
            yield target, value
        case ast.AugAssign(target=target):
            yield target, None
        case ast.Delete(targets=targets):
            yield from ((target, None) for target in targets)


def _single(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for each in target.elts:
            yield from _single(each)
    else:
        yield target.value if isinstance(target, ast.Starred) else target


def _member(members: dict[Class, dict[str, Class | None]], owner: Class | None, name: str) -> Class | None:
    """The class of a member; of an owner that is not known, what all classes with such a member agree on."""
    if owner is not None:
        return members.get(owner, {}).get(name)
    agreed = {known[name] for known in members.values() if name in known}
    return agreed.pop() if len(agreed) == 1 else None


def _is_self(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in ("self", "cls")
