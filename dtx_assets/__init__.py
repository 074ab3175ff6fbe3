"""Migration plans as Dagster asset graphs: one sub-package a system, and the machinery they share."""

from dtx_assets import interrupts

if interrupts.is_command():
    interrupts.install()
elif interrupts.is_server():
    interrupts.die_quietly()
elif interrupts.is_worker():
    interrupts.hear_hang_up()
