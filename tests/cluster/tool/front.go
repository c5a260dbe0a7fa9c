package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// configuration of one registry, written by the harness.
type configuration struct {
	Flavour     string `json:"flavour"` // acr or ghcr: where the two differ in what they answer
	Host        string `json:"host"`
	DataHost    string `json:"data_host"`
	Address     string `json:"address"`
	DataAddress string `json:"data_address"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	Upstream    string `json:"upstream"` // distribution, HTTP
	Storage     string `json:"storage"`  // distribution's root directory
	Control     string `json:"control"`  // unix socket: a fault as a line of JSON
	TokenPath   string `json:"token_path"`
	SigningKey  string `json:"signing_key"`
	KeyID       string `json:"key_id"`
	User        string `json:"user"`
	Password    string `json:"password"`
}

func readConfiguration(file string) (*configuration, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c := &configuration{}
	return c, json.Unmarshal(text, c)
}

// fault is what the front does instead of serving. What happens below TCP (a black hole, a
// refused connection) is not its business: the harness does that with nftables.
type fault struct {
	Kind         string `json:"kind"` // none, reset, silent, hang, delay, http, varying, token, firewall
	Code         int    `json:"code,omitempty"`
	RetryAfter   string `json:"retry_after,omitempty"`
	PathContains string `json:"path_contains,omitempty"`
	Milliseconds int    `json:"milliseconds,omitempty"`
}

// registryFront ends TLS for a registry and its blob host, hands out tokens, passes everything
// else on to distribution, and injects faults.
type registryFront struct {
	*configuration
	issuer *issuer
	proxy  *httputil.ReverseProxy

	lock        sync.Mutex
	fault       fault
	connections map[net.Conn]struct{}
	varied      atomic.Uint64 // answers with an error that was never given before
}

func front(arguments []string) error {
	c, err := readConfiguration(arguments[0])
	if err != nil {
		return err
	}
	f := &registryFront{configuration: c, fault: fault{Kind: "none"}, connections: map[net.Conn]struct{}{}}
	if f.issuer, err = newIssuer(c); err != nil {
		return err
	}
	upstream := &url.URL{Scheme: "http", Host: c.Upstream}
	f.proxy = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(upstream); r.Out.Host = r.In.Host },
		ModifyResponse: f.challenge,
		FlushInterval:  -1,
	}
	if err := os.RemoveAll(c.Control); err != nil {
		return err
	}
	control, err := net.Listen("unix", c.Control)
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	go func() { failed <- f.serveControl(control) }()
	go func() { failed <- f.serveTLS(c.Address, f.registry) }()
	go func() { failed <- f.serveTLS(c.DataAddress, f.data) }()
	return <-failed
}

func (f *registryFront) serveTLS(address string, handler http.HandlerFunc) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: f.logged(f.faulty(handler))}
	return server.ServeTLS(&faultyListener{listener, f}, f.Certificate, f.Key)
}

func (f *registryFront) current() fault {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.fault
}

// serveControl takes one fault per connection and answers "ok". A change closes all connections,
// so that a client with a pool of them meets it too.
func (f *registryFront) serveControl(listener net.Listener) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		line, _ := bufio.NewReader(connection).ReadBytes('\n')
		next := fault{}
		if err := json.Unmarshal(line, &next); err != nil {
			fmt.Fprintln(connection, err)
		} else {
			f.set(next)
			fmt.Fprintln(connection, "ok")
		}
		connection.Close()
	}
}

func (f *registryFront) set(next fault) {
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.fault == next {
		return
	}
	f.fault = next
	for connection := range f.connections {
		connection.Close()
	}
	clear(f.connections)
}

// faultyListener keeps the books of open connections and injects what happens before TLS.
type faultyListener struct {
	net.Listener
	front *registryFront
}

type tracked struct {
	net.Conn
	front *registryFront
}

func (t *tracked) Close() error {
	go func() { // set() closes while it holds the lock
		t.front.lock.Lock()
		defer t.front.lock.Unlock()
		delete(t.front.connections, t)
	}()
	return t.Conn.Close()
}

func (l *faultyListener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		kept := &tracked{connection, l.front}
		l.front.lock.Lock()
		kind := l.front.fault.Kind
		if kind != "reset" {
			l.front.connections[kept] = struct{}{}
		}
		l.front.lock.Unlock()
		switch kind {
		case "reset":
			go reset(connection.(*net.TCPConn))
		case "hang":
			// Held open, never read: the client's handshake waits.
		default:
			return kept, nil
		}
	}
}

// reset waits for the client's first words: before them the client could take it for a refusal.
func reset(connection *net.TCPConn) {
	connection.SetDeadline(time.Now().Add(time.Minute))
	connection.Read(make([]byte, 1))
	// Closed with a linger of 0, TCP sends RST in place of FIN.
	connection.SetLinger(0)
	connection.Close()
}

// faulty injects what can be injected into any request, to whichever of the two hosts.
func (f *registryFront) faulty(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch current := f.current(); current.Kind {
		case "silent":
			<-r.Context().Done()
			return
		case "delay":
			select {
			case <-time.After(time.Duration(current.Milliseconds) * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// registry serves the registry's own name.
func (f *registryFront) registry(w http.ResponseWriter, r *http.Request) {
	current := f.current()
	atToken := r.URL.Path == f.TokenPath
	if current.Kind == "http" && strings.Contains(r.URL.Path, current.PathContains) || current.Kind == "token" && atToken {
		if current.RetryAfter != "" {
			w.Header().Set("Retry-After", current.RetryAfter)
		}
		if current.Code == http.StatusUnauthorized && !atToken {
			w.Header().Set("Www-Authenticate", fmt.Sprintf("Bearer realm=%q,service=%q", "https://"+f.Host+f.TokenPath, f.Host))
		}
		code, known := errorCodes[current.Code]
		if !known {
			code = "UNKNOWN"
		}
		refuse(w, r, current.Code, code, "injected by the test cluster")
		return
	}
	if current.Kind == "varying" {
		// As clouds answer in an outage: a quote of the answer never says the same twice.
		count := f.varied.Add(1)
		correlation := fmt.Sprintf("%016x", rand.Uint64())
		w.Header().Set("X-Ms-Correlation-Request-Id", correlation)
		message := fmt.Sprintf("request %d failed at %s, correlation ID %s", count, time.Now().UTC().Format(time.RFC3339Nano), correlation)
		refuse(w, r, varying[count%uint64(len(varying))], "UNAVAILABLE", message)
		return
	}
	if current.Kind == "firewall" {
		// Azure's words for a network that is not among the registry's allowed ones.
		client, _, _ := net.SplitHostPort(r.RemoteAddr)
		message := fmt.Sprintf("client with IP '%s' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.", client)
		refuse(w, r, http.StatusForbidden, "DENIED", message)
		return
	}
	if atToken {
		f.serveToken(w, r)
		return
	}
	f.proxy.ServeHTTP(w, r)
}

var varying = []int{500, 502, 503, 504}

var errorCodes = map[int]string{
	401: "UNAUTHORIZED", 403: "DENIED", 404: "MANIFEST_UNKNOWN", 405: "UNSUPPORTED", 429: "TOOMANYREQUESTS", 503: "UNAVAILABLE",
}

// refuse answers with an error body as the distribution specification has it.
func refuse(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
	}
}

// challenge gives ghcr.io's answer to /v2/ the placeholder scope that the real one has; ACR's has
// none, and neither has distribution's.
func (f *registryFront) challenge(response *http.Response) error {
	if value := response.Header.Get("Www-Authenticate"); f.Flavour == "ghcr" && value != "" && !strings.Contains(value, "scope=") {
		response.Header.Set("Www-Authenticate", value+`,scope="repository:user/image:pull"`)
	}
	return nil
}

// data serves the blob host, to which distribution redirects: files below its blobs.
func (f *registryFront) data(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		// Both object stores refuse a request that carries the registry's token as well.
		http.Error(w, "InvalidAuthenticationInfo", http.StatusBadRequest)
		return
	}
	name := path.Clean(r.URL.Path)
	if !strings.HasPrefix(name, "/docker/registry/v2/blobs/") || path.Base(name) != "data" {
		http.NotFound(w, r)
		return
	}
	file, err := os.Open(filepath.Join(f.Storage, name))
	if errors.Is(err, os.ErrNotExist) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, file)
}

// logged writes a line per request: what it was, who asked (never with what), what was answered.
func (f *registryFront) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := &recorder{ResponseWriter: w, status: http.StatusOK}
		start := time.Now()
		scheme, _, found := strings.Cut(r.Header.Get("Authorization"), " ")
		if !found {
			scheme = "-"
		}
		defer func() {
			fmt.Printf("%s %s %s %s %d %s %s %q\n", start.UTC().Format(time.RFC3339Nano), r.Method, r.Host, r.URL.RequestURI(),
				recorder.status, time.Since(start).Round(time.Microsecond), scheme, r.UserAgent())
		}()
		next.ServeHTTP(recorder, r)
	})
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets the reverse proxy flush.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
