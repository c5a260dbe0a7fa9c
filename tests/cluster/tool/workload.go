package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// pause waits for the end of the pod.
func pause([]string) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
	return nil
}

func sleep(arguments []string) error {
	duration, err := time.ParseDuration(arguments[0])
	if err != nil {
		return err
	}
	time.Sleep(duration)
	return nil
}

func crashAfter(arguments []string) error {
	if err := sleep(arguments); err != nil {
		return err
	}
	return fmt.Errorf("crashed after %s, as asked", arguments[0])
}

// serve answers every request with the variant of the image and the name of the pod.
func serve(arguments []string) error {
	variant, err := os.ReadFile("/variant")
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", arguments[0])
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	answer := fmt.Sprintf("%s on %s\n", strings.TrimSpace(string(variant)), host)
	failed := make(chan error, 1)
	go func() {
		failed <- http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, answer)
		}))
	}()
	go func() { failed <- pause(nil) }()
	return <-failed
}

func lookup(arguments []string) error {
	addresses, err := net.LookupHost(arguments[0])
	fmt.Println(addresses)
	return err
}
