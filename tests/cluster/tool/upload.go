package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// uploader speaks to distribution itself, on the loopback of its namespace, with a token of its
// own making: a push works whatever fault the front has been told to show.
type uploader struct {
	client     *http.Client
	base       string
	token      string
	blobs      string
	repository string
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
}

func newUploader(file, repository string) (*uploader, error) {
	c, err := readConfiguration(file)
	if err != nil {
		return nil, err
	}
	issuer, err := newIssuer(c)
	if err != nil {
		return nil, err
	}
	token, err := issuer.mint("harness", []access{{"repository", repository, []string{"pull", "push", "delete"}}})
	if err != nil {
		return nil, err
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &uploader{client: client, base: "http://" + c.Upstream + "/v2/" + repository, token: token, repository: repository}, nil
}

// push CONFIGURATION BLOBS MANIFEST-DIGEST REPOSITORY TAG: BLOBS is the folder blobs/sha256 of an OCI layout.
func push(arguments []string) error {
	u, err := newUploader(arguments[0], arguments[3])
	if err != nil {
		return err
	}
	u.blobs = arguments[1]
	return u.manifest(arguments[2], arguments[4])
}

// remove CONFIGURATION REPOSITORY TAG-OR-DIGEST
func remove(arguments []string) error {
	u, err := newUploader(arguments[0], arguments[1])
	if err != nil {
		return err
	}
	_, err = u.do(http.MethodDelete, u.base+"/manifests/"+arguments[2], "", nil, http.StatusAccepted)
	return err
}

// cleanUp CONFIGURATION REPOSITORY REFERENCE PART deletes the config, or the last layer, that a manifest still refers to, as a
// clean-up does that takes it for unused, and prints its digest.
func cleanUp(arguments []string) error {
	u, err := newUploader(arguments[0], arguments[1])
	if err != nil {
		return err
	}
	text, err := u.read(u.base + "/manifests/" + arguments[2])
	if err != nil {
		return err
	}
	var content struct {
		Config descriptor   `json:"config"`
		Layers []descriptor `json:"layers"`
	}
	if err := json.Unmarshal(text, &content); err != nil {
		return err
	}
	part := content.Config
	if arguments[3] == "layer" && len(content.Layers) > 0 {
		part = content.Layers[len(content.Layers)-1]
	}
	if _, err := u.do(http.MethodDelete, u.base+"/blobs/"+part.Digest, "", nil, http.StatusAccepted); err != nil {
		return err
	}
	fmt.Println(part.Digest)
	return nil
}

func (u *uploader) read(address string) ([]byte, error) {
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+u.token)
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	response, err := u.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("failed to read %s: %s", address, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, 1<<20))
}

// manifest pushes a manifest, or an index, after what it refers to.
func (u *uploader) manifest(digest, reference string) error {
	text, err := os.ReadFile(u.file(digest))
	if err != nil {
		return err
	}
	var content struct {
		MediaType string       `json:"mediaType"`
		Config    *descriptor  `json:"config"`
		Layers    []descriptor `json:"layers"`
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(text, &content); err != nil {
		return err
	}
	for _, child := range content.Manifests {
		if err := u.manifest(child.Digest, child.Digest); err != nil {
			return err
		}
	}
	if content.Config != nil {
		content.Layers = append(content.Layers, *content.Config)
	}
	for _, blob := range content.Layers {
		if err := u.blob(blob.Digest); err != nil {
			return err
		}
	}
	_, err = u.do(http.MethodPut, u.base+"/manifests/"+reference, content.MediaType, bytes.NewReader(text), http.StatusCreated)
	return err
}

func (u *uploader) blob(digest string) error {
	// Present blobs are redirected to the blob host, as for everyone.
	if _, err := u.do(http.MethodHead, u.base+"/blobs/"+digest, "", nil, http.StatusTemporaryRedirect); err == nil {
		return nil
	}
	header, err := u.do(http.MethodPost, u.base+"/blobs/uploads/", "", nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	start, err := url.Parse(u.base)
	if err != nil {
		return err
	}
	location, err := start.Parse(header.Get("Location"))
	if err != nil {
		return err
	}
	query := location.Query()
	query.Set("digest", digest)
	location.RawQuery = query.Encode()
	file, err := os.Open(u.file(digest))
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = u.do(http.MethodPut, location.String(), "application/octet-stream", file, http.StatusCreated)
	return err
}

func (u *uploader) file(digest string) string {
	return filepath.Join(u.blobs, strings.TrimPrefix(digest, "sha256:"))
}

func (u *uploader) do(method, address, mediaType string, body io.Reader, want int) (http.Header, error) {
	request, err := http.NewRequest(method, address, body)
	if err != nil {
		return nil, err
	}
	if file, isFile := body.(*os.File); isFile {
		stat, err := file.Stat()
		if err != nil {
			return nil, err
		}
		request.ContentLength = stat.Size()
	}
	request.Header.Set("Authorization", "Bearer "+u.token)
	if mediaType != "" {
		request.Header.Set("Content-Type", mediaType)
	}
	response, err := u.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	if response.StatusCode != want {
		return nil, fmt.Errorf("failed to %s %s: %s %s", method, address, response.Status, text)
	}
	return response.Header, nil
}
