"""What a whole model hears, measured by differentiation: `ssmspec.probe`. Needs torch."""
