"""The error tree is the one that is documented, and errors travel between processes."""

import inspect
import pickle
import re

import pytest

from wsistore import errors

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.WsistoreError)
]


def documented():
    """Return {class name: (code, name of its parent, builtin named beside it)}."""
    found, above = {}, {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+)(?:\s+(WSI\d+).*?(?:\((\w+Error)\))?)?$", line)
        if match and match[2].endswith("Error"):
            depth = len(match[1])
            above[depth] = match[2]
            parent = max((d for d in above if d < depth), default=None)
            above = {d: name for d, name in above.items() if d <= depth}
            found[match[2]] = (match[3] or "WSI000", above.get(parent, ""), match[4])
    return found


def test_the_documented_tree_is_the_real_one():
    real = {
        kind.__name__: (
            kind.code,
            "" if kind is errors.WsistoreError else kind.__bases__[0].__name__,
        )
        for kind in CLASSES
    }
    assert {name: told[:2] for name, told in documented().items()} == real
    assert len(real) > 20


def test_builtins_named_in_the_tree_catch_the_errors():
    named = {name: told[2] for name, told in documented().items() if told[2]}
    assert named == {
        "UsageError": "ValueError",
        "NotReadyError": "RuntimeError",
        "DependencyError": "ImportError",
        "SourceError": "OSError",
        "SourceUnavailableError": "ConnectionError",
        "StoreWriteError": "OSError",
        "IncompleteError": "RuntimeError",
    }
    for name, builtin in named.items():
        assert issubclass(getattr(errors, name), __builtins__[builtin])


def test_codes_are_unique():
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"WSI\d{3}", code) for code in codes)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_pickles_with_its_hint(kind):
    again = pickle.loads(pickle.dumps(kind("a.svs has no pages", hint="Open another.")))
    assert type(again) is kind
    assert (again.message, again.hint) == ("a.svs has no pages", "Open another.")
    assert str(again) == "a.svs has no pages Open another."
    assert str(kind("only this")) == "only this"
