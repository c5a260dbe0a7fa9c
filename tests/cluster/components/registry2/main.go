// The distribution registry of version 2, which many still run, with its files in a folder and TLS. Its own program would need modules
// of monitoring services and certificate authorities that are not offered any more.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/docker/distribution/configuration"
	"github.com/docker/distribution/registry/handlers"

	_ "github.com/docker/distribution/registry/storage/driver/filesystem"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: registry2 FOLDER ADDRESS CERTIFICATE KEY")
		os.Exit(2)
	}
	config := &configuration.Configuration{
		Storage: configuration.Storage{"filesystem": {"rootdirectory": os.Args[1]}},
	}
	config.Log.Level = "error"
	config.HTTP.RelativeURLs = true
	// What its program does without a secret: one for this process.
	config.HTTP.Secret = "of this process alone"
	log.Fatal(http.ListenAndServeTLS(os.Args[2], os.Args[3], os.Args[4], handlers.NewApp(context.Background(), config)))
}
