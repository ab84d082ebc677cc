"""The module that holds each public name. `ssmspec` imports a name from its module when it is first used."""

HOMES: dict[str, str] = {
    "AnalysisOptions": "commands.analyze",
    "FAMILIES": "families",
    "FrequencyGrid": "systems.grid",
    "OperatingPoint": "families",
    "ReadOptions": "families",
    "STATISTICS": "statistics",
    "SpectralMonitor": "monitoring",
    "SsmspecError": "errors",
    "StateSpace": "systems.statespace",
    "analyze": "commands.analyze",
    "frequency_response": "systems.response",
    "impulse_response": "systems.response",
    "load_backend": "backends",
    "load_system": "families.layers",
    "reduce": "commands.reduce",
}
