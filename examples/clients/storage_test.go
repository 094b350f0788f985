package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/stayauth/stayauth/transport"
)

// An upload is begun, sent in pieces, and read again; the token is rejected at the beginning,
// or at the second piece, which is sent once more.
func TestStorage(t *testing.T) {
	for name, reject := range map[string]func(*http.Request) bool{
		"begin": atFirst("POST"),
		"piece": func(r *http.Request) bool {
			return r.URL.Path == "/upload" && r.Header.Get("Content-Range")[:7] != "bytes 0"
		},
		"read": atFirst("GET"),
	} {
		t.Run(name, func(t *testing.T) { testStorage(t, reject) })
	}
}

// serveStorage is the fake of one bucket, in whose upload the pieces must follow each other.
func serveStorage(t *testing.T) http.Handler {
	var object bytes.Buffer
	api := http.NewServeMux()
	api.HandleFunc("POST /upload/storage/v1/b/bucket/o", func(w http.ResponseWriter, r *http.Request) {
		object.Reset()
		w.Header().Set("Location", apiURL+"/upload")
	})
	api.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		var begin, end int
		if n, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d", &begin, &end); n != 2 || begin != object.Len() {
			t.Errorf("the piece %q is not the next: %v", r.Header.Get("Content-Range"), err)
		}
		io.Copy(&object, r.Body)
		if end < len(large)-1 {
			w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", end))
			w.Header().Set("X-HTTP-Status-Code-Override", "308")
			return
		}
		fmt.Fprintf(w, `{"bucket":"bucket","name":"object","size":"%d"}`, object.Len())
	})
	api.HandleFunc("GET /storage/v1/b/bucket/o/object", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(object.Len()))
		w.Write(object.Bytes())
	})
	return asJSON(api)
}

func testStorage(t *testing.T, reject func(*http.Request) bool) {
	w := newWorld(t, serveStorage(t), reject, transport.Config{})
	client, err := storage.NewClient(t.Context(), option.WithHTTPClient(w.client), option.WithEndpoint(apiURL+"/storage/v1/"), storage.WithJSONReads())
	if err != nil {
		t.Fatal(err)
	}
	w.keepsWorking(func(ctx context.Context) error {
		o := client.Bucket("bucket").Object("object")
		upload := o.NewWriter(ctx)
		upload.ChunkSize = 256 << 10
		if _, err := upload.Write(large); err != nil {
			return err
		}
		if err := upload.Close(); err != nil {
			return err
		}
		download, err := o.NewReader(ctx)
		if err != nil {
			return err
		}
		defer download.Close()
		if got := hash(download); got != hashOfLarge {
			return fmt.Errorf("the object is %s", got)
		}
		return nil
	})
}

// An upload in one piece can be read only once: the program is told, and has another token next.
func TestStorageInOnePiece(t *testing.T) {
	w := newWorld(t, serveStorage(t), atFirst("POST"), transport.Config{})
	client, err := storage.NewClient(t.Context(), option.WithHTTPClient(w.client), option.WithEndpoint(apiURL+"/storage/v1/"))
	if err != nil {
		t.Fatal(err)
	}
	rejected, err := w.source.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	upload := client.Bucket("bucket").Object("object").NewWriter(t.Context())
	upload.ChunkSize = 0
	upload.Write(large)
	if e, ok := errors.AsType[*googleapi.Error](upload.Close()); !ok || e.Code != http.StatusUnauthorized {
		t.Errorf("the upload: %v", e)
	}
	if next, err := w.source.Token(t.Context()); err != nil || next.AccessToken == rejected.AccessToken {
		t.Errorf("the next request has the rejected token; %v", err)
	}
}
