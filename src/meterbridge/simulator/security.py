"""What a simulated meter demands of its management client beyond a password."""

from __future__ import annotations

from dataclasses import dataclass, field

from meterbridge.dlms import Keys, Mechanism, ReservedCounter, SecurityContext, SecurityPolicy, SecuritySuite
from meterbridge.dlms.counters import ReceivedCounters
from meterbridge.dlms.hls import check_mechanism


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """What simulated meters demand of their management client.

    Args:
        mechanism: how it authenticates.
        keys: of every meter alike.
        suite: security suite.
        policy: least protection of every APDU; NONE takes what comes.
        secret: HLS secret, or the password of LLS. Never shown by repr.
        title: first letters of every meter's system title, its number follows.
        signed: whether every APDU has to be signed.

    Raises:
        ConfigurationError: a key that is missing or does not fit.
    """

    mechanism: Mechanism = Mechanism.HLS_GMAC
    keys: Keys = field(default_factory=Keys, repr=False)
    suite: SecuritySuite = SecuritySuite.AES_128
    policy: SecurityPolicy = SecurityPolicy.BOTH
    secret: bytes = field(default=b"", repr=False)
    title: bytes = b"MBS"
    signed: bool = False

    def __post_init__(self) -> None:
        context = self.of_meter(0).context
        check_mechanism(
            self.mechanism, secret=self.secret, keys=self.keys, system_title=context.system_title, suite=self.suite
        )

    def of_meter(self, number: int) -> MeterSecurity:
        """Make one meter's security: its own title, its own counters."""
        title = self.title[:3].ljust(3, b"X") + number.to_bytes(5, "big")
        context = SecurityContext(title, self.keys, self.suite, self.policy, signed=self.signed)
        return MeterSecurity(context, self.mechanism, self.secret)


@dataclass(slots=True)
class MeterSecurity:
    """What one meter keeps from association to association.

    Args:
        context: system title, keys and least protection.
        mechanism: how its client authenticates.
        secret: HLS secret or LLS password. Never shown by repr.
        counter: of what it sends.
        received: of what it took.
    """

    context: SecurityContext
    mechanism: Mechanism
    secret: bytes = field(default=b"", repr=False)
    counter: ReservedCounter = field(default_factory=lambda: ReservedCounter(1))
    received: ReceivedCounters = field(default_factory=ReceivedCounters)

    @property
    def last_counter(self) -> int:
        """Invocation counter it took last, as its own object shows it."""
        return self.received.last.get("encryption", 0)
