package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// lifetime of a token. The real ones live longer (an hour and more at ACR); clients have to obey
// what they are told, so a short one shows more.
const lifetime = 5 * time.Minute

type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// issuer signs the tokens that distribution accepts (its configuration names the same key).
type issuer struct {
	key     *ecdsa.PrivateKey
	keyID   string
	service string
}

func newIssuer(c *configuration) (*issuer, error) {
	text, err := os.ReadFile(c.SigningKey)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("failed to read %q: not PEM", c.SigningKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("failed to read the signing key: not an ECDSA key")
	}
	return &issuer{key: key, keyID: c.KeyID, service: c.Host}, nil
}

// mint makes a JWT as the registry token specification wants it.
func (i *issuer) mint(subject string, granted []access) (string, error) {
	now := time.Now()
	identity := make([]byte, 12)
	rand.Read(identity)
	header, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "kid": i.keyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": "https://" + i.service, "aud": i.service, "sub": subject, "jti": fmt.Sprintf("%x", identity), "access": granted,
		"iat": now.Unix(), "nbf": now.Add(-10 * time.Second).Unix(), "exp": now.Add(lifetime).Unix(),
	})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	hash := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, hash[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// serveToken is the registry's token endpoint. Who shows no credentials may pull what is not
// below a "private" component; who shows the right ones may do everything.
func (f *registryFront) serveToken(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		refuse(w, r, http.StatusBadRequest, "UNSUPPORTED", err.Error())
		return
	}
	user, password, shown := r.BasicAuth()
	if r.Method == http.MethodPost {
		// The OAuth2 form of the same question; ghcr.io has only the GET.
		if f.Flavour != "acr" || r.PostForm.Get("grant_type") != "password" {
			refuse(w, r, http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported")
			return
		}
		user, password, shown = r.PostForm.Get("username"), r.PostForm.Get("password"), true
	}
	right := subtle.ConstantTimeCompare([]byte(user+":"+password), []byte(f.User+":"+f.Password)) == 1
	if shown && !right {
		// A wrong password spoils even the pull of a public image, on both; only the status differs.
		if f.Flavour == "ghcr" {
			refuse(w, r, http.StatusForbidden, "DENIED", "denied")
		} else {
			refuse(w, r, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information.")
		}
		return
	}
	granted, allowed := grants(r.Form["scope"], right)
	if !allowed {
		refuse(w, r, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return
	}
	token, err := f.issuer.mint(user, granted)
	if err != nil {
		refuse(w, r, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	name := map[string]string{"acr": "access_token", "ghcr": "token"}[f.Flavour]
	json.NewEncoder(w).Encode(map[string]string{name: token})
}

// grants says what is granted of what was asked, and false if the question itself is refused.
func grants(scopes []string, known bool) ([]access, bool) {
	granted := []access{}
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		cut := strings.LastIndexByte(rest, ':')
		if cut < 0 {
			continue
		}
		name, asked := rest[:cut], strings.Split(rest[cut+1:], ",")
		if !known && slices.Contains(strings.Split(name, "/"), "private") {
			return nil, false
		}
		actions := []string{}
		for _, action := range asked {
			if known || kind == "repository" && (action == "pull" || action == "metadata_read") {
				actions = append(actions, action)
			}
		}
		granted = append(granted, access{kind, name, actions})
	}
	return granted, true
}
