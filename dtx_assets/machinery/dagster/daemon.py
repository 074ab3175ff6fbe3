"""What `dagster-daemon run` does; an interrupt while it starts ends it without a traceback. `dtx daemon` starts it."""

from dagster._daemon.cli import main as dagster_daemon

from dtx_assets import interrupts


def main() -> None:
    interrupts.leave_quietly()
    dagster_daemon()


if __name__ == "__main__":
    main()
