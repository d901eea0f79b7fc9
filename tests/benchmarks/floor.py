"""The URLs of `web` and the smallest view that could receive deliveries, for the benchmark.

It does what any receiver of webhooks in Django must: verify the signature and insert a row.
"""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from metrics_sync.ingest.webhooks import verify_signature
from metrics_sync.models import WebhookDelivery


@csrf_exempt
def receive(request: HttpRequest) -> HttpResponse:
    verify_signature(
        request.body,
        secret=settings.METRICS_SYNC_GITHUB_WEBHOOK_SECRET,
        signature=request.headers.get("X-Hub-Signature-256"),
    )
    WebhookDelivery.objects.create(
        endpoint="floor",
        guid=request.headers["X-GitHub-Delivery"],
        event=request.headers["X-GitHub-Event"],
        payload=request.body.decode(),
    )
    return HttpResponse(status=202)


urlpatterns = [path("floor/", receive), path("", include("project.urls"))]
