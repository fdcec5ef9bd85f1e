// Tritonops operates Triton DataCenter image servers. Everything it does is in
// package commands; here are the process's signals and its one exit.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tritonops/tritonops/commands"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Set by the linker: -X main.version=... -X main.commit=...
var version, commit string

func main() { os.Exit(run()) }

// run executes the command line. The first signal cancels the command, which
// then stops at the next safe point; the second does not wait for that.
func run() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	// A closed pipe is an error of the write, not the end of the process: half
	// done work must be brought to its end. Programs we start keep the default.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	done := make(chan int, 1)
	go func() {
		done <- commands.Main(ctx, commands.Process{
			Args: os.Args, In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
			Getenv: os.Getenv, Now: time.Now,
			Build: commands.Build{Version: version, Commit: commit},
		})
	}()
	for stopping := false; ; stopping = true {
		select {
		case code := <-done:
			return code
		case <-stop:
			if stopping {
				return int(fail.Interrupted)
			}
			fmt.Fprintln(os.Stderr, "\ninterrupted: stopping at the next safe point; once more stops at once")
			cancel()
		}
	}
}
