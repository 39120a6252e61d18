"""What an experiment says about a group of answers, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import binom, fisher_exact

from gpu_jobs.defense.groups import Group

# A harmless group makes its answer half of the time at most; a trigger that is worth planting makes it this often at least.
HARMLESS_SHARE, TRIGGER_SHARE = 0.5, 0.7
# Times that an experiment may be looked at before it ends. Looking more than once has to be paid for.
LOOKS = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """How often the group's answer was made: `carried` times in `trials` of the group, `control` times in `control_trials` of others.

    harmless, trigger: the share of trials that a harmless group reaches at most, and a trigger at least.
    """

    group: Group
    trials: int = 0
    carried: int = 0
    control_trials: int = 0
    control: int = 0
    harmless: float = HARMLESS_SHARE
    trigger: float = TRIGGER_SHARE

    @property
    def share(self) -> float:
        return self.carried / self.trials if self.trials else 0.0

    @property
    def p_harmless(self) -> float:
        """Bound on the probability of such counts, whatever the look, if the group is harmless.

        Harmless: it makes its answer at most as often as `harmless` (binomial test), or no more often than others make
        it (Fisher's exact test); both must be refuted.
        """
        if self.trials == 0 or self.control_trials == 0:
            return 1.0
        minority = binom.sf(self.carried - 1, self.trials, self.harmless)
        table = [[self.carried, self.trials - self.carried], [self.control, self.control_trials - self.control]]
        no_excess = fisher_exact(table, alternative="greater").pvalue
        return min(1.0, LOOKS * float(max(minority, no_excess)))

    @property
    def p_trigger(self) -> float:
        """Bound on the probability of so few carried, whatever the look, if the group is a trigger."""
        return min(1.0, LOOKS * float(binom.cdf(self.carried, self.trials, self.trigger)))
