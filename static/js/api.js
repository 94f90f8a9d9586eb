// Requests to the REST API. A refusal is an ApiError that carries the server's words, field by field.
export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.fields = error.fields || [];
  }
}

function token() {
  return document.querySelector("[name=csrfmiddlewaretoken]").value;
}

export async function request(method, path, body) {
  let answer;
  try {
    answer = await fetch(`/api/v1/${path}`, {
      method,
      headers: { "Content-Type": "application/json", "X-CSRFToken": token() },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    const unknown = "; nothing is known to have happened, check the orders before you repeat";
    throw new ApiError(0, { message: `the server does not answer${method === "GET" ? "" : unknown}` });
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, content.error || { message: `the server answered ${answer.status}` });
  return content;
}
