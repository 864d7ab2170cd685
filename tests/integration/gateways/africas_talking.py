"""Africa's Talking."""

import os

from django.urls import path

from rapidsms_db_router.gateways.http.views import HttpInboundView, HttpReportView

# settings
BACKEND = {
    "ENGINE": "rapidsms_db_router.gateways.HttpBackend",
    "url": "https://api.africastalking.com/version1/messaging",
    "headers": {"apiKey": os.environ["AT_API_KEY"]},
    "form": {
        "username": "myapp",
        "to": "{identities}",
        "message": "{text}",
        "bulkSMSMode": "1",
        "enqueue": "1",
    },
    "numbers": "plus",
    "recipients": "SMSMessageData.Recipients",
    "number": "number",
    "success": {"statusCode": [100, 101, 102]},
    "permanent": {"statusCode": [403, 404, 406, 409]},
    "later": {
        "statusCode": [402, 405, 500, 501],
        # in place of the recipients
        "SMSMessageData.Message": "InvalidSenderId",
    },
    "id": "messageId",
}
VIEWS = [
    path(
        "gateway/inbound/",
        HttpInboundView.as_view(backend_name="gateway", secret=os.environ["SECRET"], id="id"),
    ),
    path(
        "gateway/report/",
        HttpReportView.as_view(
            backend_name="gateway",
            secret=os.environ["SECRET"],
            id="id",
            identity="phoneNumber",
            reason="failureReason",
            outcomes={
                "Success": "delivered",
                "Sent": "accepted",
                "Submitted": "accepted",
                "Buffered": "buffered",
                "Rejected": "rejected",
                "Failed": "failed",
                "AbsentSubscriber": "failed",
                "Expired": "failed",
            },
        ),
    ),
]
# end
