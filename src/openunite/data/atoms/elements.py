"""Chemical symbols and atomic numbers, 1 to 118."""

from collections.abc import Iterable

_PERIODIC_TABLE = """
H He
Li Be B C N O F Ne
Na Mg Al Si P S Cl Ar
K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe
Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn
Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
# Pauling electronegativity ascending, then by symbol: the order in which pymatgen lists atoms.
_ASCENDING = """
Fr Cs K Rb Ba Ra Na Sr Li Ca Ac La Tb Yb Ce Pm Pr Nd Sm Eu Gd Dy Y Ho Er Tm Lu Pu Am Bk Cf Cm Es Fm
Hf Lr Md No Th Mg Zr Np Sc U Pa Ta Ti Mn Be Nb Al Tl V Zn Cr Cd In Ga Fe Co Cu Re Si Tc Ni Ag Sn Hg
Po Ge Bi B Sb Te Mo As P At H Ir Os Pd Rn Ru Pt Rh Pb W Au C Se S Xe I Br Kr N Cl O F He Ne Ar Rf Db
Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
SYMBOLS = tuple(_PERIODIC_TABLE.split())
MAX_NUMBER = len(SYMBOLS)
# Files name the isotopes of hydrogen as if they were elements.
_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, 1)} | {"D": 1, "T": 1}
BY_ELECTRONEGATIVITY = tuple(_NUMBERS[symbol] for symbol in _ASCENDING.split())


def atomic_number(symbol: str) -> int:
    """ "Cl" -> 17; D and T are hydrogen. ValueError for anything but a chemical symbol."""
    number = _NUMBERS.get(symbol)
    if number is None:
        raise ValueError(f"unknown element {symbol!r}; expected a chemical symbol such as C or Cl")
    return number


def symbol_of(number: int) -> str:
    """17 -> "Cl". ValueError outside 1 to 118."""
    if not 1 <= number <= MAX_NUMBER:
        raise ValueError(f"expected an atomic number from 1 to {MAX_NUMBER}, got {number}")
    return SYMBOLS[number - 1]


def sorted_elements(elements: Iterable[str | int]) -> tuple[int, ...]:
    """Symbols or atomic numbers -> atomic numbers without repeats, ascending."""
    numbers = (atomic_number(e) if isinstance(e, str) else e for e in elements)
    found = tuple(sorted(set(map(int, numbers))))
    for number in found:
        symbol_of(number)
    return found
