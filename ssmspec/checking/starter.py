"""The template for a rules file: it explains every key, and leaves the behavior of the built-in rules unchanged."""

from collections.abc import Iterator

from ssmspec.checking.findings import SEVERITIES
from ssmspec.checking.rules import BUILT_IN
from ssmspec.checking.thresholds import AGGREGATES, COUNTS
from ssmspec.statistics import STATISTICS


def starter_text() -> str:
    """A commented rules file."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    width = max(map(len, BUILT_IN))
    yield "# Rules for: ssmspec check CHECKPOINT --rules THIS_FILE"
    yield "# Errors make the check fail (exit code 1); warnings do so only with --strict, infos never."
    yield ""
    yield "[rules]"
    yield "# Built-in rules to disable. All built-in rules with their severities:"
    for rule in BUILT_IN.values():
        yield f"#   {rule.id:<{width}}  {rule.severity:<7}  {rule.description}"
    yield "disable = []"
    yield ""
    yield "[severity]"
    yield f"# Another severity for a built-in rule: {', '.join(SEVERITIES)}."
    yield '# step-range = "error"'
    yield '# beyond-nyquist = "warning"'
    yield ""
    yield "# Limits on statistics: any number of [[threshold]] tables."
    yield "#   statistic   one of these, in the unit of 'ssmspec analyze --json':"
    yield from (f"#               {name}{f' [{statistic.unit}]' if statistic.unit else ''}" for name, statistic in STATISTICS.items())
    yield '#   layer       exact name, glob, or index of layers; default "*". A threshold that matches no layer is an error.'
    yield f"#   aggregate   {', '.join(AGGREGATES)}: this value over the copies of a layer must lie within min..max; default median."
    yield f"#               {', '.join(COUNTS)}: a finding if any copy, or if every copy, lies outside min..max."
    yield "#   min, max    the limits (inclusive); one of them may be missing."
    yield f'#   severity    {", ".join(SEVERITIES)}; default "error".'
    yield "#   allow_null  true: layers and copies without a value pass; default false: they are an error."
    yield "#   id          its name in findings; default: statistic-aggregate."
    yield ""
    yield "# [[threshold]]"
    yield '# id = "learns-high-frequencies"'
    yield '# statistic = "bias_slope"'
    yield '# layer = "*"'
    yield '# aggregate = "median"'
    yield "# min = -2.0"
    yield "# max = 0.0"
    yield '# severity = "error"'
    yield ""
    yield "# [[threshold]]"
    yield '# statistic = "time_constant"'
    yield '# aggregate = "any"'
    yield "# max = 100000.0"
    yield '# severity = "warning"'
    yield "# allow_null = true"
