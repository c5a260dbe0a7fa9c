// Pulls one image as containerd does for a kubelet, without a containerd: its resolver, fetcher and content store, with the transport
// of its CRI plugin. What it says is the measure for what the operator calls an outage.
//
// It prints "ok", or the class of the error and the error.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/sirupsen/logrus"
)

// Names and where they lead.
type names map[string]string

func (n names) String() string { return "" }

func (n names) Set(text string) error {
	name, address, found := strings.Cut(text, "=")
	if !found {
		return errors.New("not NAME=ADDRESS")
	}
	n[name] = address
	return nil
}

func main() {
	known := names{}
	flag.Var(known, "resolve", "NAME=ADDRESS:PORT, as often as wanted")
	ca := flag.String("ca", "", "file of the certificates that are trusted")
	account := flag.String("account", "", "USER:PASSWORD")
	limit := flag.Duration("time", 10*time.Second, "until it is given up")
	flag.Parse()
	logrus.SetOutput(io.Discard)
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	client, err := newClient(*ca, known)
	if err == nil {
		err = pull(ctx, flag.Arg(0), hosts(client, *account))
	}
	if err != nil {
		fmt.Printf("%s: %v\n", class(err), err)
		return
	}
	fmt.Println("ok")
}

func newClient(ca string, known names) (*http.Client, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + ca)
	}
	transport := docker.DefaultHTTPTransport(&tls.Config{RootCAs: roots})
	transport.Proxy = nil
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, _, err := net.SplitHostPort(address); err == nil && known[host] != "" {
			address = known[host]
		}
		return dial(ctx, network, address)
	}
	return &http.Client{Transport: transport}, nil
}

// As the CRI plugin makes them.
func hosts(client *http.Client, account string) docker.RegistryHosts {
	user, password, _ := strings.Cut(account, ":")
	credentials := func(string) (string, string, error) { return user, password, nil }
	return func(host string) ([]docker.RegistryHost, error) {
		return []docker.RegistryHost{{
			Client: client,
			Authorizer: docker.NewDockerAuthorizer(
				docker.WithAuthClient(client),
				docker.WithAuthCreds(credentials),
			),
			Host:         host,
			Scheme:       "https",
			Path:         "/v2",
			Capabilities: docker.HostCapabilityResolve | docker.HostCapabilityPull,
		}}, nil
	}
}

func pull(ctx context.Context, reference string, hosts docker.RegistryHosts) error {
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: hosts})
	name, root, err := resolver.Resolve(ctx, reference)
	if err != nil {
		return err
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "pull")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	store, err := local.NewStore(folder)
	if err != nil {
		return err
	}
	handler := images.Handlers(remotes.FetchHandler(store, fetcher), images.ChildrenHandler(store))
	if err := images.Dispatch(ctx, handler, nil, root); err != nil {
		return err
	}
	// What has no children that it knows of is no image.
	children, err := images.Children(ctx, store, root)
	if err == nil && len(children) == 0 {
		err = errors.New("not an image: " + root.MediaType)
	}
	return err
}

func class(err error) string {
	var status remoteerrors.ErrUnexpectedStatus
	var timeout net.Error
	switch {
	case errors.As(err, &status):
		return fmt.Sprintf("status %d", status.StatusCode)
	case errors.Is(err, docker.ErrInvalidAuthorization):
		return "unauthorized"
	case errdefs.IsNotFound(err):
		return "not found"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	default:
		return "error"
	}
}
