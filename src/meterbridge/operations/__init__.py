"""From facts to what an operator should know and do."""

from meterbridge.operations.checks import Check, Level
from meterbridge.operations.facts import Facts, Live, OutboxFact, Places, ProbeFact, RouteFact
from meterbridge.operations.gathering import gather
from meterbridge.operations.health import Health, MeterHealth, health_of
from meterbridge.operations.log_search import LogFilter, follow, search
from meterbridge.operations.plan import Action, Plan, plan_of
from meterbridge.operations.probes import Target, probe
from meterbridge.operations.qos import Quality, quality_of

__all__ = [
    "Action",
    "Check",
    "Facts",
    "Health",
    "Level",
    "Live",
    "LogFilter",
    "MeterHealth",
    "OutboxFact",
    "Places",
    "Plan",
    "ProbeFact",
    "Quality",
    "RouteFact",
    "Target",
    "follow",
    "gather",
    "health_of",
    "plan_of",
    "probe",
    "quality_of",
    "search",
]
