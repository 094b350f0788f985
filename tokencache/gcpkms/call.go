package gcpkms

import (
	"bytes"
	"context"
	"crypto/tls"
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
	attempts  = 3 // for a connection that was lost, and a service that is overloaded
	pause     = 100 * time.Millisecond
	maxAnswer = 64 << 10
)

const (
	notUnderstood = "the answer is not that of Cloud KMS: check Config.Endpoint and what is before it"
	damaged       = "the request or the answer was damaged on its way"
)

// An answer knows whether it and its request have arrived as they were sent. Google asks its
// clients to check, because what was wrapped wrongly is lost.
type answer interface{ whole() bool }

// call asks a key to encrypt or decrypt data, which may be repeated.
func call[A answer](ctx context.Context, w *Wrapper, op, key, field string, data []byte) (got A, err error) {
	body, err := json.Marshal(map[string]any{
		field:                               data,
		field + "Crc32c":                    sum(data),
		"additionalAuthenticatedData":       []byte(additionalData),
		"additionalAuthenticatedDataCrc32c": sum([]byte(additionalData)),
	})
	if err != nil {
		return got, err
	}
	for attempt := 1; ; attempt++ {
		var got A
		says, again, kind := w.try(ctx, op, key, body, &got)
		if kind == nil && !got.whole() {
			says, again, kind = damaged, true, tokencache.ErrUnavailable
		}
		switch {
		case kind == nil:
			return got, nil
		case ctx.Err() != nil:
			return got, fmt.Errorf("gcpkms: %s with key %s: %w: %w", op, key, tokencache.ErrUnavailable, ctx.Err())
		case !again || attempt == attempts:
			return got, problem(op, key, kind, says)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause<<attempt/2 + rand.N(pause<<attempt/2)):
		}
	}
}

// problem returns what the caller sees. It never holds what the service has said, because there
// is no telling what that is.
func problem(op, key string, kind error, says string) error {
	return fmt.Errorf("gcpkms: %s with key %.200q: %w: %s", op, key, kind, says)
}

// try sends one request. If it fails, it returns what to say, whether it is worth another
// attempt, and the kind of the error.
func (w *Wrapper) try(ctx context.Context, op, key string, body []byte, out any) (says string, again bool, kind error) {
	status, got, err := w.send(ctx, w.base+"/"+key+":"+op, body)
	switch {
	case err != nil:
		return harmless(err), true, tokencache.ErrUnavailable
	case status != http.StatusOK:
		return meaning(status, op, got)
	case json.Unmarshal(got, out) != nil:
		return notUnderstood, false, tokencache.ErrUnavailable
	}
	return "", false, nil
}

// send waits no longer than ctx says, even if the client does: those of package oauth2 fetch
// their tokens without it.
func (w *Wrapper) send(ctx context.Context, url string, body []byte) (status int, got []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	type outcome struct {
		status int
		got    []byte
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		resp, err := w.client.Do(req)
		if err != nil {
			done <- outcome{err: err}
			return
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		done <- outcome{resp.StatusCode, got, err}
	}()
	select {
	case o := <-done:
		return o.status, o.got, o.err
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}

// meaning says what an answer means that is not the one that was hoped for.
func meaning(status int, op string, got []byte) (says string, again bool, kind error) {
	var body struct {
		Error struct{ Status, Message string }
	}
	json.Unmarshal(got, &body)
	text := body.Error.Message
	kind = tokencache.ErrUnavailable
	switch body.Error.Status {
	case "INVALID_ARGUMENT":
		switch {
		case strings.Contains(text, "checksum") || strings.Contains(text, "crc32c"):
			return damaged, true, kind
		case op == "decrypt" && strings.HasPrefix(text, "Decryption failed"):
			return "the wrapped key is damaged, or another key has wrapped it", false, tokencache.ErrCorrupt
		}
		return "the service does not accept the request: is the purpose of the key ENCRYPT_DECRYPT?", false, kind
	case "FAILED_PRECONDITION":
		return "the version of the key is disabled or destroyed: enable it, or restore it while that is possible", false, kind
	case "UNAUTHENTICATED":
		return "Config.Client has no valid credentials", false, kind
	case "PERMISSION_DENIED":
		return "permission denied: grant roles/cloudkms.cryptoKeyEncrypterDecrypter on the key; the API has to be enabled in the project too", false, kind
	case "NOT_FOUND":
		return "there is no such key", false, kind
	case "RESOURCE_EXHAUSTED":
		return "the service limits the rate of requests: ask for a higher quota", true, kind
	}
	if 300 <= status && status < 400 {
		return "the service redirects, which is not followed with a data key: check Config.Endpoint", false, kind
	}
	return fmt.Sprintf("the service answers with status %d", status), status == http.StatusTooManyRequests || status >= 500, kind
}

func harmless(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "the service does not answer in time"
	}
	return "the connection was lost, or Config.Client could not get a token"
}
