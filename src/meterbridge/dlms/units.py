"""Units and scalers of register values (Blue Book, class Register, attribute 3)."""

from __future__ import annotations

_SYMBOLS = {
    1: "a", 2: "mo", 3: "wk", 4: "d", 5: "h", 6: "min", 7: "s", 8: "°", 9: "°C", 10: "currency",
    11: "m", 12: "m/s", 13: "m³", 14: "m³", 15: "m³/h", 16: "m³/h", 17: "m³/d", 18: "m³/d", 19: "l", 20: "kg",
    21: "N", 22: "Nm", 23: "Pa", 24: "bar", 25: "J", 26: "J/h", 27: "W", 28: "VA", 29: "var", 30: "Wh",
    31: "VAh", 32: "varh", 33: "A", 34: "C", 35: "V", 36: "V/m", 37: "F", 38: "Ω", 39: "Ωm²/m", 40: "Wb",
    41: "T", 42: "A/m", 43: "H", 44: "Hz", 45: "1/(Wh)", 46: "1/(varh)", 47: "1/(VAh)", 48: "V²h",
    49: "A²h", 50: "kg/s",
    51: "S", 52: "K", 53: "1/(V²h)", 54: "1/(A²h)", 55: "1/m³", 56: "%", 57: "Ah", 60: "Wh/m³", 61: "J/m³", 62: "Mol%",
    63: "g/m³", 64: "Pa s", 65: "J/kg", 66: "g/cm²", 67: "atm", 70: "dBm", 71: "dBµV", 72: "dB",
    128: "in", 129: "ft", 130: "lb", 131: "°F", 132: "°R", 133: "in²", 134: "ft²", 135: "ac", 136: "in³", 137: "ft³",
    138: "acre-ft", 139: "gal", 140: "gal (imp)", 141: "oz (fl)", 142: "lb/ft²", 143: "lb/in²", 144: "ft/s", 145: "mi",
    146: "mi/h", 147: "ft³/h", 148: "ft³/d", 149: "gal/h", 150: "gal/d", 151: "BTU", 152: "hp", 153: "therm",
    154: "ton (short)", 155: "ton (long)", 156: "cal",
    254: "other", 255: None,
}  # fmt: skip

_POWERS: list[int] = [10**exponent for exponent in range(129)]


def unit_symbol(code: int) -> str | None:
    """Return the symbol of a unit code: `V`, `Wh`, `m³`; None for 255 (no unit), `unit N` for one not in the table."""
    return _SYMBOLS.get(code, f"unit {code}")


def scaled(raw: float, scaler: int) -> float:
    """Apply a register's scaler.

    Args:
        raw: attribute 2 as read, unscaled.
        scaler: power of ten, -128..127.

    Returns:
        The value in the unit of attribute 3, correctly rounded: dividing by an exact power of ten, never multiplying
        by its inexact inverse. An integer stays one where the scaler is 0 or positive.

    Raises:
        ValueError: scaler outside its int8 range.
    """
    if scaler == 0:
        return raw
    if not -128 <= scaler <= 127:
        raise ValueError(f"scaler {scaler} is outside -128..127")
    if scaler < 0:
        return raw / _POWERS[-scaler]
    return raw * _POWERS[scaler]
