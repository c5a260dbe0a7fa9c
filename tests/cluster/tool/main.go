// The test cluster's one small program. In images it is the workload (pause, serve, sleep,
// crash-after, true); outside of images it is what the harness needs inside of namespaces: PID 1,
// the front of a registry, a client that pushes to it, and a Git server.
package main

import (
	"fmt"
	"os"
)

type command struct {
	arguments int
	run       func(arguments []string) error
}

var commands = map[string]command{
	"pause":       {0, pause},
	"true":        {0, func([]string) error { return nil }},
	"sleep":       {1, sleep},
	"crash-after": {1, crashAfter},
	"serve":       {1, serve},
	"lookup":      {1, lookup},
	"anchor":      {1, anchor},
	"anchor-init": {1, anchorInit},
	"front":       {1, front},
	"push":        {5, push},
	"remove":      {3, remove},
	"clean-up":    {4, cleanUp},
	"git":         {2, serveGit},
}

func main() {
	arguments := os.Args[1:]
	if len(arguments) == 0 {
		arguments = []string{"pause"}
	}
	chosen, known := commands[arguments[0]]
	if !known || len(arguments)-1 != chosen.arguments {
		fmt.Fprintf(os.Stderr, "failed to run %q: no such command with %d arguments\n", arguments[0], len(arguments)-1)
		os.Exit(2)
	}
	if err := chosen.run(arguments[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
