#!/bin/sh
# A runner in a few lines of shell and curl: everything docs/runner-contract.md asks for, and nothing more.
# Build any image with sh, curl and (better) pdftotext in it, make this its entrypoint, and name it in
# spec.processor.custom.image. It makes one record of each page; a real runner would read JSON with a library.
set -eu

field() { # a plain field of the task
	printf '%s' "$PDFJOB_TASK" | sed -n "s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p"
}

end() { # EXIT-CODE [ERROR-CODE MESSAGE]: leave the last word and end
	printf '{"code":"%s","message":"%s"}' "${2:-}" "${3:-}" | sed 's/"code":"",//' \
		>"${PDFJOB_TERMINATION_LOG:-/dev/termination-log}" || true
	exit "$1"
}

request() { # WHAT then curl's arguments: 5xx and broken connections are tried again, the rest ends the start
	what=$1 && shift
	status=$(curl -sS --retry 4 --max-time 120 -o "$work/answer" -w '%{http_code}' "$@") || status=000
	case $status in
	2??) ;;
	412) ;; # an earlier attempt stored it
	40[013]) grep -q 'expired' "$work/answer" && end 77 '' "$what: the URL expired" ||
		end 74 STORAGE_ERROR "$what: HTTP $status" ;;
	*) end 74 STORAGE_ERROR "$what: HTTP $status" ;;
	esac
}

text_of() { # PAGE-OF-THE-PDF: its text as one line, escaped for JSON
	if command -v pdftotext >/dev/null; then
		pdftotext -f "$1" -l "$1" "$work/chunk.pdf" "$work/text" || end 65 INVALID_PDF "page $1 of the chunk cannot be read"
	else
		echo "This is page $1 of the chunk." >"$work/text"
	fi
	tr -s '[:space:][:cntrl:]' ' ' <"$work/text" | sed 's/[\\"]/\\&/g; s/^ *//; s/ *$//'
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'end 75' TERM INT # interrupted: whatever was not stored is done again by the next start

first=$(field startPage) last=$(field endPage) before=$(field contextBefore)
[ -n "$first" ] && [ -n "$last" ] || end 64 PROCESSING_ERROR "PDFJOB_TASK names no pages"

request "reading the chunk" "$PDFJOB_CHUNK_URL"
mv "$work/answer" "$work/chunk.pdf"
echo "$(field sha256)  $work/chunk.pdf" | sha256sum -c - >/dev/null || end 74 STORAGE_ERROR "not the chunk of the task"

page=$first
: >"$work/records"
while [ "$page" -le "$last" ]; do
	now=$(date -u +%Y-%m-%dT%H:%M:%SZ) # the heartbeat; a slow runner sends it every 10 seconds
	curl -sS -o /dev/null -X PUT "$PDFJOB_PROGRESS_URL" \
		-H 'Content-Type:' -d "{\"done\":$((page - first)),\"total\":$((last - first + 1)),\"time\":\"$now\"}" || true
	text=$(text_of $((page - first + ${before:-0} + 1)))
	[ -z "$text" ] || printf '{"page":%d,"endPage":%d,"text":"%s"}\n' "$page" "$page" "$text" >>"$work/records"
	page=$((page + 1))
done
[ -s "$work/records" ] || end 66 NO_TEXT "No extractable text in PDF chunk"

printf '{"version":1,"startPage":%d,"endPage":%d,"records":[%s]}' "$first" "$last" "$(paste -sd, "$work/records")" \
	>"$work/result.json"
request "storing the result" -X PUT -H 'If-None-Match: *' -T "$work/result.json" "$PDFJOB_RESULT_URL"
end 0
