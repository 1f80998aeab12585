"""Whether a meter takes several attributes in one request: found out, and remembered over reconnections. Pure."""

from __future__ import annotations

_SILENCES = 2


class Lists:
    """What requests with lists came to.

    Some meters agree to lists and refuse them; some never answer one, or drop the connection. Silence may have other
    reasons: after two in a row single requests are tried, and kept if one is answered.

    `worth_trying` says whether the next request may ask for several attributes.
    """

    __slots__ = ("_on_trial", "_proven", "_silences", "worth_trying")

    def __init__(self) -> None:
        self.worth_trying = True
        self._on_trial = self._proven = False
        self._silences = 0

    def answered(self, attributes: int) -> None:
        """A request for so many attributes was answered."""
        self._on_trial = False
        if attributes > 1:
            self._proven = True

    def refused(self) -> None:
        """The meter refused a list and gave its attributes one by one."""
        self.worth_trying = False

    def silent(self, attributes: int) -> None:
        """A request for so many attributes was not answered, or ended the connection."""
        if attributes > 1 and not self._proven:
            self._silences += 1
            if self._silences >= _SILENCES:
                self.worth_trying, self._on_trial = False, True
        elif attributes == 1 and self._on_trial:
            # It is silent whatever is asked.
            self.worth_trying, self._on_trial, self._silences = True, False, 0
