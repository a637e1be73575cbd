"""YAML from somebody else: plain values alone, of a bounded size.

A few hundred bytes of YAML can mean gigabytes: each name of a list of nine names means nine
others. Such names (aliases) are usual in small numbers, so what they mean is counted.
"""

from typing import Any

VALUES_MAX = 20_000  # of a whole document, what aliases mean counted each time


def plain_yaml(text: str) -> Any:
    """The value of a YAML text; None if it is none, needs classes, is cyclic or too large."""
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
    """Whether there are not too many values in it, an alias counted as what it means."""
    todo, n_values = [value], 0
    while todo and n_values <= VALUES_MAX:
        one = todo.pop()
        n_values += 1
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set):
            todo += one
    return n_values <= VALUES_MAX
