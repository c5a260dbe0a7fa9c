package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// anchor starts PID 1 of a new PID and mount namespace, in the caller's network namespace, and
// returns when its mounts are there. It leaves STATE/anchor: the PID as seen from outside and
// the start time, which together name a process even after PIDs have wrapped around.
func anchor(arguments []string) error {
	state := arguments[0]
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(state, "log", "anchor.log"))
	if err != nil {
		return err
	}
	ready, done, err := os.Pipe()
	if err != nil {
		return err
	}
	child := exec.Command(self, "anchor-init", state)
	child.Stdout, child.Stderr, child.ExtraFiles = log, log, []*os.File{done}
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Setsid: true}
	if err := child.Start(); err != nil {
		return fmt.Errorf("failed to start PID 1 of the cluster: %w", err)
	}
	done.Close()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child.Process.Pid))
	if err != nil {
		return err
	}
	// The name in field 2 may hold spaces: count from its closing bracket. Field 22 is the start.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	name := fmt.Sprintf("%d %s\n", child.Process.Pid, fields[19])
	if err := os.WriteFile(filepath.Join(state, "anchor.new"), []byte(name), 0o600); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(state, "anchor.new"), filepath.Join(state, "anchor")); err != nil {
		return err
	}
	if said, _ := io.ReadAll(ready); string(said) != "ready" {
		child.Wait()
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("failed to set up the cluster's mounts: %s", text)
	}
	return nil
}

// anchorInit is PID 1: it makes the mounts, says so, and from then on only reaps orphans.
func anchorInit(arguments []string) error {
	os.WriteFile("/proc/self/comm", []byte("catamaran-init"), 0)
	if err := mounts(arguments[0]); err != nil {
		return err
	}
	children := make(chan os.Signal, 64)
	signal.Notify(children, syscall.SIGCHLD)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	done := os.NewFile(3, "done")
	if _, err := done.WriteString("ready"); err != nil {
		return err
	}
	done.Close()
	for range children {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
	}
	return nil
}

// mounts makes the default paths of containerd, kubelet and CNI private to the cluster: a tmpfs
// on /run, overlays on /var/lib and /var/log, and its own /etc/hosts, resolv.conf and CA bundle.
func mounts(state string) error {
	mount := func(source, target, kind string, flags uintptr, options string) error {
		if err := syscall.Mount(source, target, kind, flags, options); err != nil {
			return fmt.Errorf("failed to mount %q on %q: %w", source, target, err)
		}
		return nil
	}
	if err := mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", "/run", "tmpfs", syscall.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	if err := os.MkdirAll("/run/lock", 0o1777); err != nil {
		return err
	}
	for _, name := range []string{"lib", "log"} {
		lower, upper, work := "/var/"+name, filepath.Join(state, "overlay", name), filepath.Join(state, "overlay", name+".work")
		for _, folder := range []string{upper, work} {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return err
			}
		}
		if err := mount("overlay", lower, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
			return err
		}
	}
	for name, path := range map[string]string{
		"hosts": "/etc/hosts", "resolv.conf": "/etc/resolv.conf", "ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt",
	} {
		target, err := mountPoint(path)
		if err != nil {
			return err
		}
		if err := mount(filepath.Join(state, "etc", name), target, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	// The kubelet and containerd hand mounts on to containers: that takes shared propagation.
	return mount("none", "/", "", syscall.MS_REC|syscall.MS_SHARED, "")
}

// mountPoint follows the symlinks of a file that need not exist (resolv.conf often points to a
// file below /run, which the tmpfs has just hidden) and makes sure that there is a file.
func mountPoint(path string) (string, error) {
	for range 8 {
		link, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(path), link)
		}
		path = link
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return "", err
	}
	return path, file.Close()
}
