package vaulttransit

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

const (
	attempts  = 3 // for a connection that was lost, and a server that is overloaded or restarts
	pause     = 100 * time.Millisecond
	maxAnswer = 64 << 10
)

const notUnderstood = "the answer is not that of a transit engine: check Config.Address and what is before the server"

// call asks the engine to encrypt or decrypt. Both may be repeated.
func (w *Wrapper) call(ctx context.Context, op, key string, in map[string]string, out any) error {
	in["associated_data"] = base64.StdEncoding.EncodeToString([]byte(associatedData))
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	var token tokencache.Secret
	if w.cfg.Token != nil {
		// The error is not shown, because it is somebody else's and may hold anything.
		if token, err = w.cfg.Token(ctx); err != nil || token == "" {
			return problem(op, key, tokencache.ErrUnavailable, "Config.Token has returned no token")
		}
	}
	for attempt := 1; ; attempt++ {
		says, again, kind := w.try(ctx, op, key, token, body, out)
		switch {
		case kind == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("vaulttransit: %s with key %q: %w: %w", op, key, tokencache.ErrUnavailable, ctx.Err())
		case !again || attempt == attempts:
			return problem(op, key, kind, says)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause<<attempt/2 + rand.N(pause<<attempt/2)):
		}
	}
}

// problem returns what the caller sees. It never holds what the server has said, because there
// is no telling what that is.
func problem(op, key string, kind error, says string) error {
	return fmt.Errorf("vaulttransit: %s with key %.100q: %w: %s", op, key, kind, says)
}

// try sends one request. If it fails, it returns what to say, whether it is worth another
// attempt, and the kind of the error.
func (w *Wrapper) try(ctx context.Context, op, key string, token tokencache.Secret, body []byte, out any) (says string, again bool, kind error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.base+"/"+op+"/"+key, bytes.NewReader(body))
	if err != nil {
		return "the address is not valid", false, tokencache.ErrUnavailable
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Vault-Request", "true") // Agents may insist on it.
	if token != "" {
		req.Header.Set("X-Vault-Token", string(token))
	}
	if w.cfg.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", w.cfg.Namespace)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return harmless(err), true, tokencache.ErrUnavailable
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "the connection was lost", true, tokencache.ErrUnavailable
	}
	if resp.StatusCode == http.StatusOK {
		if json.Unmarshal(answer, &struct{ Data any }{out}) != nil {
			return notUnderstood, false, tokencache.ErrUnavailable
		}
		return "", false, nil
	}
	says, kind = meaning(resp.StatusCode, op, w.cfg.Mount, answer)
	return says, resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500, kind
}

// meaning says what an answer means that is not the one that was hoped for.
func meaning(status int, op, mount string, answer []byte) (says string, kind error) {
	var body struct{ Errors []string }
	json.Unmarshal(answer, &body)
	text := strings.Join(body.Errors, " ")
	kind = tokencache.ErrUnavailable
	switch {
	case status == http.StatusBadRequest:
		for _, m := range meanings {
			if strings.Contains(text, m.text) && (m.op == "" || m.op == op) {
				return m.says, m.kind
			}
		}
		return "the server cannot use the key: it must be of type aes256-gcm96 or another one that encrypts with associated data, and not derived", kind
	case status == http.StatusForbidden && op == "encrypt":
		return "permission denied: the token has expired, its policy lacks update on " + mount + "/encrypt/KEY, or there is no such key", kind
	case status == http.StatusForbidden:
		return "permission denied: the token has expired, or its policy lacks update on " + mount + "/decrypt/KEY", kind
	case status == http.StatusNotFound:
		return "nothing is there: check Config.Mount and Namespace", kind
	case status == http.StatusTooManyRequests:
		return "the server limits the rate of requests", kind
	case status >= 300 && status < 400:
		return "the server redirects, which is not followed with a token: name the address of the active server, or of a load balancer that finds it", kind
	case strings.Contains(text, "sealed"):
		return "the server is sealed: unseal it", kind
	}
	return fmt.Sprintf("the server answers with status %d", status), kind
}

// What the errors with status 400 say, more particular ones first.
var meanings = []struct {
	op, text string
	kind     error
	says     string
}{
	{"", "encryption key not found", tokencache.ErrUnavailable, "there is no such key, in this mount and namespace"},
	{"decrypt", "too new", tokencache.ErrUnavailable, "the server does not have this version of the key yet: it lags behind, or was restored from an older backup"},
	{"decrypt", "too old", tokencache.ErrUnavailable, "min_decryption_version of the key forbids this version: lower it again, until all records are re-wrapped"},
	{"decrypt", "message authentication failed", tokencache.ErrCorrupt, "the wrapped key is damaged, or another key of that name has wrapped it"},
	{"decrypt", "invalid ciphertext", tokencache.ErrCorrupt, "the wrapped key is damaged"},
}

func harmless(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "the server does not answer in time"
	}
	return "the connection was lost, or is refused by Config.Client"
}
