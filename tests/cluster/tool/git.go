package main

import (
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// serveGit serves the repositories below a folder over HTTP at an address: git's own server side,
// behind Go's CGI. Anyone who reaches the address may read all of them, and write those that say so.
func serveGit(arguments []string) error {
	folder, address := arguments[0], arguments[1]
	programs, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return fmt.Errorf("failed to find git: %w", err)
	}
	server := http.Server{
		Addr: address,
		Handler: &cgi.Handler{
			Path:   filepath.Join(strings.TrimSpace(string(programs)), "git-http-backend"),
			Env:    []string{"GIT_PROJECT_ROOT=" + folder, "GIT_HTTP_EXPORT_ALL=1"},
			Stderr: os.Stderr,
		},
		ReadHeaderTimeout: 10 * time.Second,
	}
	return server.ListenAndServe()
}
