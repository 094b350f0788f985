//go:build ignore

// This is Local KMS, an emulator of AWS KMS, on the address and with the data directory
// that its arguments name. Unlike its own program it listens where it is told, refuses a
// ciphertext of another key than the request names, as AWS does, and rotates on demand.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/nsmithuk/local-kms/src"
	"github.com/nsmithuk/local-kms/src/cmk"
	"github.com/nsmithuk/local-kms/src/config"
	"github.com/nsmithuk/local-kms/src/data"
	"github.com/nsmithuk/local-kms/src/service"
)

func main() {
	config.AWSAccountId, config.AWSRegion, config.DatabasePath = "111122223333", "eu-west-1", os.Args[2]
	database := data.NewDatabase(config.DatabasePath)
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		switch operation {
		case "Decrypt":
			if !sameKey(database, body) {
				w.WriteHeader(http.StatusBadRequest)
				io.WriteString(w, `{"__type": "IncorrectKeyException"}`)
				return
			}
		case "RotateKeyOnDemand":
			rotate(database, body)
			io.WriteString(w, "{}")
			return
		}
		src.HandleRequest(w, r, database)
	})))
}

// sameKey reports whether a ciphertext is of the key that the request names, or whether
// that is for others to say.
func sameKey(database *data.Database, body []byte) bool {
	var request struct {
		KeyId          string
		CiphertextBlob []byte
	}
	json.Unmarshal(body, &request)
	arn := request.KeyId
	if strings.Contains(arn, "alias/") {
		alias, err := database.LoadAlias(config.EnsureArn("", arn))
		if err != nil {
			return true
		}
		arn = alias.TargetKeyId
	}
	arn = config.EnsureArn("key/", arn)
	of, _, _, ok := service.UnpackCiphertextBlob(request.CiphertextBlob)
	key, err := database.LoadKey(of)
	return !ok || err != nil || key == nil || key.GetArn() == arn
}

func rotate(database *data.Database, body []byte) {
	var request struct{ KeyId string }
	json.Unmarshal(body, &request)
	key, err := database.LoadKey(config.EnsureArn("key/", request.KeyId))
	if err != nil {
		log.Fatal(err)
	}
	key.(*cmk.AesKey).NextKeyRotation = time.Now().Add(-time.Second) // It is done when the key is next used.
	if err := database.SaveKey(key); err != nil {
		log.Fatal(err)
	}
}
