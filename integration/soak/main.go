// Soak starts a fleet of one site and throws garbage at it for as long as one
// likes (make soak SOAK=10m). It exits 1 when the site was disturbed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"ocspfleet/integration/testkit/devfleet"
	"ocspfleet/integration/testkit/garbage"
)

func main() {
	length := flag.Duration("time", 10*time.Minute, "how long")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *length); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, length time.Duration) error {
	base, err := devfleet.FreeBasePort(1)
	if err != nil {
		return err
	}
	f, err := devfleet.Up(ctx, devfleet.Options{Dir: ".run-soak", Bin: "bin", Sites: 1, Certs: 400, BasePort: base, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { _ = f.Down(context.WithoutCancel(ctx)) }()
	fmt.Fprintf(os.Stderr, "throwing garbage at %s for %s\n", f.Sites[0].URL, length)
	r, err := garbage.Run(ctx, f, f.Sites[0], length)
	fmt.Printf("attacks %d\ngood clients served meanwhile %d, the slowest in %s\nresident memory %.1f MiB, at the end %.1f MiB\ngoroutines %.0f, at the end %.0f\n",
		r.Attacks, r.Canaries, r.Slowest.Round(time.Millisecond), r.MemoryFirst/(1<<20), r.MemoryLast/(1<<20), r.GoroutinesBefore, r.GoroutinesAfter)
	return err
}
