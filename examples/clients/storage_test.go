package clients

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"cloud.google.com/go/storage"
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

func testStorage(t *testing.T, reject func(*http.Request) bool) {
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
	w := newWorld(t, asJSON(api), reject, transport.Config{})
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
