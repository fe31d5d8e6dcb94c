"""Drives a node with the official OpenAI client, for the system tests.

Arguments: base URL, CA file, token. Each line of standard input is a JSON operation; each gets exactly one
line {"result": ...} or {"error": ...} on standard output, after {"event": text} lines where it asks for events.
TLS is verified against the node's CA and nothing else, as strictly as OpenSSL can.
"""

import json
import ssl
import sys

import httpx2
import openai


def main(base_url, ca_file, token):
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    http = httpx2.Client(verify=context, trust_env=False, timeout=180)
    for line in sys.stdin:
        operation = json.loads(line)
        client = openai.OpenAI(
            base_url=base_url + "/v1",
            api_key=operation.get("token", token),
            http_client=http,
            max_retries=0,
        )
        try:
            say({"result": OPERATIONS[operation["op"]](client, http, base_url, operation)})
        except openai.APIStatusError as error:
            say({"error": describe(error, error.status_code)})
        except openai.APIError as error:
            say({"error": describe(error, None)})
        except httpx2.TransportError as error:
            say({"error": {"class": type(error).__name__, "message": str(error)}})


def describe(error, status):
    return {
        "class": type(error).__name__,
        "status": status,
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
        "cause": repr(error.__cause__),
    }


def models(client, _http, _base_url, _operation):
    return [model.model_dump() for model in client.models.list()]


def chat(client, _http, _base_url, operation):
    return create(client.chat.completions, operation, lambda choice: choice.delta.content)


def completion(client, _http, _base_url, operation):
    return create(client.completions, operation, lambda choice: choice.text)


def create(resource, operation, text_of):
    arguments = operation["arguments"]
    if not arguments.get("stream"):
        return resource.create(**arguments).model_dump()
    chunks = []
    for chunk in resource.create(**arguments):
        chunks.append(chunk.model_dump())
        text = text_of(chunk.choices[0]) if chunk.choices else None
        if text and operation.get("events"):
            say({"event": text})
    return chunks


def abandon(client, _http, _base_url, operation):
    """Reads the first text of a stream and hangs up."""
    stream = client.chat.completions.create(stream=True, **operation["arguments"])
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    stream.response.close()
    return None


def http(client, http, base_url, operation):
    """A request that the client library would not send."""
    headers = {"content-type": "application/json"}
    if operation.get("authorized", True):
        headers["authorization"] = "Bearer " + client.api_key
    headers.update(operation.get("headers", {}))
    body = operation.get("body", "") + "x" * operation.get("padding_bytes", 0)
    answer = http.request(operation["method"], base_url + operation["path"], headers=headers, content=body)
    return {"status": answer.status_code, "headers": dict(answer.headers), "body": answer.text}


OPERATIONS = {"models": models, "chat": chat, "completion": completion, "abandon": abandon, "http": http}


def say(message):
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
