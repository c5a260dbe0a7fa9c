// One registry out of several that people run and test with, kept in memory behind TLS, for copies that are to be the same everywhere.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
)

// handlers are the registries by name, as their own programs set them up.
var handlers = map[string]func() http.Handler{
	"cuelabs": func() http.Handler { return ociserver.New(ocimem.New(), nil) },
	"go-containerregistry": func() http.Handler {
		return registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(os.Stderr, "", 0)))
	},
	"olareg": func() http.Handler {
		return olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	},
}

func main() {
	if len(os.Args) != 5 || handlers[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: registries cuelabs|go-containerregistry|olareg ADDRESS CERTIFICATE KEY")
		os.Exit(2)
	}
	log.Fatal(http.ListenAndServeTLS(os.Args[2], os.Args[3], os.Args[4], handlers[os.Args[1]]()))
}
