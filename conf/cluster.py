"""Sweeps as jobs of a cluster: Hydra's submitit launcher, made to wait for all jobs whatever becomes of some."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

from shared.run.launch import GOES_ON
from shared.run.progress import say, track


def wait_for_all() -> None:
    """Have the launchers of submitit use `launch`, since theirs gives up at the first job that dies.

    Hydra takes launchers from its own package of plugins alone, so this cannot be a class of ours.
    """
    for kind in Plugins.instance().discover(Launcher):
        if kind.__module__ == BaseSubmititLauncher.__module__:
            kind.launch = launch


def launch(
    self: BaseSubmititLauncher, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> Sequence[JobReturn]:
    """Submit all runs of a sweep as one array of jobs and wait for every one; cancel them if it is stopped.

    Raises CompactHydraException, naming them, if some died without a word.
    """
    count = len(job_overrides)
    jobs = executor(self._EXECUTOR, self.params).map_array(
        self,
        [list(overrides) for overrides in job_overrides],
        ["hydra.sweep.dir"] * count,
        range(initial_job_idx, initial_job_idx + count),
        [str(number) for number in range(count)],
        [Singleton.get_state()] * count,
    )
    folder = Path(str(self.config.hydra.sweep.dir), ".submitit")
    say(f"{count} jobs, from {jobs[0].job_id} on; what they print is in {folder}")
    try:
        for job in track(jobs, "sweep", unit="jobs"):
            job.wait()
    except BaseException:
        for job in jobs:
            job.cancel()
        say(f"the jobs were cancelled; {GOES_ON}")
        raise
    done, lost = [], []
    for job in jobs:
        try:
            done += job.results()[:1]
        except Exception as error:  # of submitit, or of what the job could not load
            lost.append(f"{job.job_id} ({' '.join(str(error).split())[:200]})")
    if lost:
        raise CompactHydraException(
            f"{len(lost)} of {count} jobs ended without a word: {'; '.join(lost)}; see {folder}; {GOES_ON}"
        )
    return done


def executor(kind: str, settings: dict):
    """submitit's executor of `kind`, slurm or local, with a launcher's `settings`."""
    import submitit

    of_all = set(BaseQueueConf.__dataclass_fields__)
    named = {
        key if key in of_all else f"{kind}_{key}": value
        for key, value in settings.items()
        if key != "submitit_folder"
    }
    at_start = {key: named.pop(key) for key in list(named) if key.endswith("max_num_timeout")}
    folder = Path(settings["submitit_folder"]).absolute()
    made = submitit.AutoExecutor(folder, cluster=kind, **at_start)
    made.update_parameters(**named)
    return made
