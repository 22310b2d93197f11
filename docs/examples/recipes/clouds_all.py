"""One service app at Google Cloud, AWS, OpenAI and Anthropic: one token request at Okta."""

import os

from clouds import anthropic, aws, google, openai
from google.auth.transport.requests import Request

from okta_m2m import ServiceApp

app = ServiceApp.from_env()

of_google = google.credentials(app, os.environ["GOOGLE_PROVIDER"])
of_google.refresh(Request())
print("Google Cloud: token until", of_google.expiry)

of_aws = aws.session(app, os.environ["AWS_ROLE_ARN"], os.environ["AWS_REGION"])
print("AWS:", of_aws.create_client("sts").get_caller_identity()["Arn"])

of_openai = openai.client(app, os.environ["OPENAI_PROVIDER"], os.environ["OPENAI_SERVICE_ACCOUNT"])
print("OpenAI:", [model.id for model in of_openai.models.list()])

of_anthropic = anthropic.client(
    app,
    os.environ["ANTHROPIC_RULE"],
    os.environ["ANTHROPIC_ORGANIZATION"],
    os.environ["ANTHROPIC_SERVICE_ACCOUNT"],
)
print("Anthropic:", [model.id for model in of_anthropic.models.list()])
