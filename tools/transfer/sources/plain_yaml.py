"""YAML from an untrusted source: plain values of a bounded size.

A few hundred bytes of YAML can expand to gigabytes, through aliases of lists of aliases. A few
aliases are usual, so that the values they expand to are counted.
"""

from typing import Any

VALUES_MAX = 20_000  # of a document, with every alias expanded


def plain_yaml(text: str) -> Any:
    """The value of a YAML text; None if it is invalid, needs classes, is cyclic or too large."""
    try:
        import yaml

        class Loader(yaml.SafeLoader):  # type: ignore[misc]
            def flatten_mapping(self, node: Any) -> None:
                super().flatten_mapping(node)
                if len(node.value) > VALUES_MAX:  # `<<: [*a, *a]` doubles with each level
                    raise yaml.YAMLError("too many merged values")

        value = yaml.load(text, Loader)
    except Exception:  # no yaml; not YAML; nested too deep
        return None
    return value if _is_small(value) else None


def _is_small(value: Any) -> bool:
    """Whether it has at most VALUES_MAX values, with every alias expanded."""
    todo, n_values = [value], 0
    while todo and n_values <= VALUES_MAX:
        one = todo.pop()
        n_values += 1
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set):
            todo += one
    return n_values <= VALUES_MAX
