"""The module that holds each public name. `ssmspec` imports a name from its module when it is first used."""

HOMES: dict[str, str] = {
    "FAMILIES": "families",
    "FrequencyGrid": "systems.grid",
    "OperatingPoint": "families",
    "STATISTICS": "statistics",
    "SpectralMonitor": "monitoring",
    "SsmspecError": "errors",
    "StateSpace": "systems.statespace",
    "analyze": "api.analyze",
    "calibrate": "probing.calibrate",
    "check": "api.check",
    "compare": "api.compare",
    "frequency_response": "systems.response",
    "impulse_response": "systems.response",
    "load_backend": "backends",
    "load_system": "api.load_system",
    "probe": "probing.probe",
    "reduce": "api.reduce",
    "retune": "api.retune",
}
